"""Memory of a worker while many runs sleep: it must not grow with their number."""

from __future__ import annotations

import time
from typing import Any, cast

from benchmarks.harness import PREFIX, Stack
from benchmarks.machine import rss_mb
from benchmarks.report import Benchmark, Figures, Row, Scale, at_most
from taskflow.event import Event

SLEEP_S = 3_600
LIST = 100
IN_FLIGHT = (
    2_000  # events that the producer is ahead of the worker, so that the broker's backlog is not measured
)


def measure(scale: Scale) -> Figures:
    few, many = scale.pick(10_000, 500), scale.pick(100_000, 2_000)
    with Stack() as stack, stack.system() as worker:
        put_to_sleep(stack, 0, few)
        few_mb = rss_mb(worker.pids)
        store_few = used_memory(stack)
        started_s = time.monotonic()
        put_to_sleep(stack, few, many)
        took_s = time.monotonic() - started_s
        many_mb = rss_mb(worker.pids)
        store_bytes = (used_memory(stack) - store_few) / (many - few)
    return {
        "growth_mb": many_mb - few_mb,
        "few_mb": few_mb,
        "many_mb": many_mb,
        "store_bytes": store_bytes,
        "per_s": (many - few) / took_s,
    }


def put_to_sleep(stack: Stack, asleep: int, wanted: int) -> None:
    sent = asleep
    while asleep < wanted:
        while sent < wanted and sent - asleep < IN_FLIGHT:
            stack.producer.send([Event("bench/nap", {"seconds": SLEEP_S})] * LIST)
            sent += LIST
        time.sleep(0.01)
        asleep = stack.redis.zcard(f"{PREFIX}timers")


def used_memory(stack: Stack) -> int:
    return int(cast(Any, stack.redis.info("memory"))["used_memory"])


BENCHMARK = Benchmark(
    name="sleepers",
    rows=(
        Row("growth_mb", "worker's RSS, from 10,000 to 100,000 sleeping runs: growth", "MB", at_most(5)),
        Row("few_mb", "RSS of supervisor and 2 children at 10,000", "MB"),
        Row("many_mb", "at 100,000", "MB"),
        Row("store_bytes", "memory of Valkey for a sleeping run, its event and history", "bytes"),
        Row("per_s", "runs that begin, sleep and leave the worker", "runs/s"),
    ),
    measure=measure,
)
