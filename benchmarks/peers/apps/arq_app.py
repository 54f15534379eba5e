"""arq's side."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings

from benchmarks.peers.client import Operation
from benchmarks.peers.marks import BRANCHES, Kind, mark

REDIS = RedisSettings.from_dsn(os.environ["BENCH_REDIS"])


async def noop(ctx: dict[str, Any], number: int) -> int:
    mark(Kind.NOOP, number)
    return number


async def branch(ctx: dict[str, Any], number: int) -> int:
    """What a group consists of."""
    return number


async def timer(ctx: dict[str, Any], number: int) -> None:
    mark(Kind.WOKEN, number)


class WorkerSettings:
    functions = (noop, branch, timer)
    redis_settings = REDIS


async def connect() -> Mapping[str, Operation]:
    pool = await create_pool(REDIS)

    async def send(number: int, due_s: float) -> None:
        await pool.enqueue_job("noop", number)

    async def start_group(number: int, due_s: float) -> None:
        """arq has no join of its own: the client waits for the results."""
        jobs = await asyncio.gather(*[pool.enqueue_job("branch", item) for item in range(BRANCHES)])
        await asyncio.gather(*[job.result() for job in jobs if job])
        mark(Kind.JOINED, number)

    async def set_timer(number: int, due_s: float) -> None:
        await pool.enqueue_job("timer", number, _defer_until=datetime.fromtimestamp(due_s, UTC))

    return {"noop": send, "group": start_group, "timer": set_timer}
