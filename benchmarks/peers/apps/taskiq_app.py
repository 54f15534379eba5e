"""taskiq's side."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from datetime import UTC, datetime

from taskiq import TaskiqScheduler
from taskiq_redis import ListRedisScheduleSource, RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.peers.client import Operation
from benchmarks.peers.marks import BRANCHES, Kind, mark

URL = os.environ["BENCH_REDIS"]

broker = RedisStreamBroker(URL).with_result_backend(RedisAsyncResultBackend(URL))
source = ListRedisScheduleSource(URL)
scheduler = TaskiqScheduler(broker, [source])


@broker.task(task_name="noop")
async def noop(number: int) -> int:
    mark(Kind.NOOP, number)
    return number


@broker.task(task_name="branch")
async def branch(number: int) -> int:
    """What a group consists of."""
    return number


@broker.task(task_name="timer")
async def timer(number: int) -> None:
    mark(Kind.WOKEN, number)


async def send(number: int, due_s: float) -> None:
    await noop.kiq(number)


async def start_group(number: int, due_s: float) -> None:
    """taskiq has no join of its own: the client waits for the results."""
    sent = await asyncio.gather(*[branch.kiq(item) for item in range(BRANCHES)])
    await asyncio.gather(*[task.wait_result() for task in sent])
    mark(Kind.JOINED, number)


async def set_timer(number: int, due_s: float) -> None:
    await timer.schedule_by_time(source, datetime.fromtimestamp(due_s, UTC), number)


async def connect() -> Mapping[str, Operation]:
    await broker.startup()
    await source.startup()
    return {"noop": send, "group": start_group, "timer": set_timer}
