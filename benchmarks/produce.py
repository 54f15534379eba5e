"""How many events a second one thread sends."""

from __future__ import annotations

import asyncio
import time

from benchmarks.harness import Stack, lists_of
from benchmarks.report import Benchmark, Figures, Row, Scale, at_least
from taskflow.app import TaskFlow
from taskflow.event import Event


def measure(scale: Scale) -> Figures:
    singles, in_lists = scale.pick(20_000, 500), scale.pick(100_000, 5_000)
    with Stack() as stack:
        app = stack.producer
        app.send("bench/nobody", {"n": 0})  # connects
        started_s = time.perf_counter()
        for number in range(singles):
            app.send("bench/nobody", {"n": number})
        one_by_one_s = time.perf_counter() - started_s

        started_s = time.perf_counter()
        for events in lists_of([Event("bench/nobody", {"n": number}) for number in range(in_lists)], 100):
            app.send(events)
        lists_s = time.perf_counter() - started_s

        async_s = asyncio.run(send_async(app, singles))
    return {
        "one_by_one": singles / one_by_one_s,
        "lists": in_lists / lists_s,
        "async": singles / async_s,
    }


async def send_async(app: TaskFlow, count: int) -> float:
    """100 coroutines at a time, as in a busy web server."""
    await app.asend("bench/nobody", {"n": 0})
    started_s = time.perf_counter()
    for start in range(0, count, 100):
        await asyncio.gather(*[app.asend("bench/nobody", {"n": start + number}) for number in range(100)])
    return time.perf_counter() - started_s


BENCHMARK = Benchmark(
    name="produce",
    rows=(
        Row("one_by_one", "send, one event a call", "events/s", at_least(8_000)),
        Row("lists", "send, lists of 100", "events/s", at_least(50_000)),
        Row("async", "asend, one event a call, 100 coroutines", "events/s"),
    ),
    measure=measure,
)
