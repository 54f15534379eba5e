"""Runs that sleep 3 s, and runs that sleep until the same millisecond: how late their handlers go on.

The lateness counts to the first line after the sleep, so it holds beat's part, the work message, the claim and the replay.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast

import msgpack

from benchmarks.harness import POLL_S, PREFIX, RunRecord, Stack
from benchmarks.report import Benchmark, Figures, Row, Scale, at_most, percentile
from taskflow.event import Event

SLEEP_S = 3
CLOSE_POLL_S = 0.0005  # how often to look whether timers that are due have fired


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
        naps = [
            nap_of(stack, record, sleep_s) for record in stack.records("nap") if record.run_id != first.run_id
        ]
        first_ms = nap_of(stack, first, 0.2).resumed_late_ms
        at_once = measure_at_once(stack, count, before=1 + count)
    late_ms = [nap.resumed_late_ms for nap in naps]
    return {
        "p50_ms": percentile(late_ms, 50),
        "p99_ms": percentile(late_ms, 99),
        "max_ms": max(late_ms),
        "ready_p99_ms": percentile([nap.ready_late_ms for nap in naps], 99),
        "early": sum(late < 0 for late in late_ms),
        "first_ms": first_ms,
        **at_once,
    }


def measure_at_once(stack: Stack, count: int, *, before: int) -> Figures:
    """All are due in the same millisecond, so each waits for all before it: until beat has fired them, and until handlers go on.

    `before`: how many runs have finished by now, beside those of the warming up.
    """
    timers = f"{PREFIX}timers"
    due_ms = int(time.time() * 1000) + SLEEP_S * 1000
    stack.producer.send([Event("bench/alarm", {"at_ms": due_ms})] * count)
    stack.wait_until(
        lambda: stack.redis.zcount(timers, due_ms, due_ms) == count, what=f"{count:,} runs that sleep"
    )
    while stack.redis.zcount(timers, due_ms, due_ms):
        time.sleep(POLL_S if time.time() * 1000 < due_ms - 50 else CLOSE_POLL_S)
    fired_ms = time.time() * 1000
    stack.wait_for_finished(before + count)
    late_ms = [record.output / 1000 - due_ms for record in stack.records("alarm")]
    return {
        "at_once_fired_ms": fired_ms - due_ms,
        "at_once_p50_ms": percentile(late_ms, 50),
        "at_once_p99_ms": percentile(late_ms, 99),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Nap:
    """How late beat made the run ready again (by the time at which its turn began), and how late the handler went on."""

    ready_late_ms: float
    resumed_late_ms: float


def nap_of(stack: Stack, record: RunRecord, sleep_s: float) -> Nap:
    """The sleep's record tells when it was to end and when it ended; the handler gave the us at which it went on."""
    packed = cast(Any, stack.raw.hget(f"{PREFIX}steps:{record.run_id}", "nap"))
    operation = msgpack.unpackb(packed)
    due_ms = operation["started"] + sleep_s * 1000
    return Nap(ready_late_ms=operation["ended"] - due_ms, resumed_late_ms=record.output / 1000 - due_ms)


BENCHMARK = Benchmark(
    name="timers",
    rows=(
        Row("p99_ms", f"2,000 runs sleep {SLEEP_S} s: handler goes on late by, p99", "ms", at_most(25)),
        Row("p50_ms", "the same, p50", "ms"),
        Row("max_ms", "the same, latest", "ms"),
        Row("ready_p99_ms", "the same, but until beat has made the run ready again, p99", "ms", at_most(50)),
        Row("first_ms", "the very first wake-up after beat's start: late by", "ms"),
        Row("at_once_fired_ms", "2,000 runs due in the same ms: until beat has fired the last", "ms"),
        Row("at_once_p50_ms", "the same: handler goes on late by, p50", "ms"),
        Row("at_once_p99_ms", "the same, p99: all of them claimed, replayed and ended by then", "ms"),
        Row("early", "runs that went on too early", "runs", at_most(0)),
    ),
    measure=measure,
)
