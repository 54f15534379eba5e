"""taskiq's side, without a result backend."""

from __future__ import annotations

import os
from collections.abc import Mapping

from taskiq_redis import RedisStreamBroker

from benchmarks.peers.client import Operation
from benchmarks.peers.marks import Kind, mark

broker = RedisStreamBroker(os.environ["BENCH_REDIS"])


@broker.task(task_name="noop")
async def noop(number: int) -> int:
    mark(Kind.NOOP, number)
    return number


async def send(number: int, due_s: float) -> None:
    await noop.kiq(number)


async def connect() -> Mapping[str, Operation]:
    await broker.startup()
    return {"noop": send}
