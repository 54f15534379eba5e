"""Runs that sleep 3 s: how late their handlers go on.

The lateness counts to the first line after the sleep, so it holds beat's part, the work message, the claim and the replay.
"""

from __future__ import annotations

from typing import Any, cast

import msgpack

from benchmarks.harness import PREFIX, RunRecord, Stack
from benchmarks.report import Benchmark, Figures, Row, Scale, at_most, percentile
from taskflow.event import Event

SLEEP_S = 3


def measure(scale: Scale) -> Figures:
    count = scale.pick(2_000, 100)
    sleep_s = scale.pick(SLEEP_S, 1)
    with Stack() as stack, stack.system():
        stack.producer.send("bench/nap", {"seconds": 0.2})
        stack.wait_for_finished(1)
        (first,) = stack.records("nap")
        for start in range(0, count, 100):
            stack.producer.send([Event("bench/nap", {"seconds": sleep_s})] * min(100, count - start))
        stack.wait_for_finished(1 + count)
        records = [record for record in stack.records("nap") if record.run_id != first.run_id]
        late_ms = [resumed_late_ms(stack, record, sleep_s) for record in records]
        first_ms = resumed_late_ms(stack, first, 0.2)
    return {
        "p50_ms": percentile(late_ms, 50),
        "p99_ms": percentile(late_ms, 99),
        "max_ms": max(late_ms),
        "early": sum(late < 0 for late in late_ms),
        "first_ms": first_ms,
    }


def resumed_late_ms(stack: Stack, record: RunRecord, sleep_s: float) -> float:
    """The handler gave the us at which it went on; the sleep's record tells when it was to end."""
    packed = cast(Any, stack.raw.hget(f"{PREFIX}steps:{record.run_id}", "nap"))
    started_ms: int = msgpack.unpackb(packed)["started"]
    return record.output / 1000 - (started_ms + sleep_s * 1000)


BENCHMARK = Benchmark(
    name="timers",
    rows=(
        Row("p99_ms", f"2,000 runs sleep {SLEEP_S} s: handler goes on late by, p99", "ms", at_most(50)),
        Row("p50_ms", "the same, p50", "ms"),
        Row("max_ms", "the same, latest", "ms"),
        Row("first_ms", "the very first wake-up after beat's start: late by", "ms"),
        Row("early", "runs that went on too early", "runs", at_most(0)),
    ),
    measure=measure,
)
