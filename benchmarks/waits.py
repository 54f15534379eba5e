"""Many runs that wait for an event each: how fast events find the one that waits for them, and how soon that run goes on.

The waits are told apart by `match`, so each event looks up one of them. First events come one by one at a steady rate, and the time
counts from the call of `send` to the first line after the wait; then the rest comes as fast as it can.
"""

from __future__ import annotations

import time

from benchmarks.harness import PREFIX, Stack, lists_of
from benchmarks.report import Benchmark, Figures, Row, Scale, at_least, at_most, percentile
from taskflow.event import Event

PACED_PER_S = 1_000
LIST = 100
IN_FLIGHT = 2_000  # events that the producer is ahead of the worker while the waits are made


def measure(scale: Scale) -> Figures:
    count = scale.pick(100_000, 600)
    paced = scale.pick(10_000, 100)
    with Stack() as stack, stack.system():
        started_s = time.monotonic()
        make_waits(stack, count)
        made_s = time.monotonic() - started_s
        send_paced(stack, paced)
        stack.wait_for_finished(paced)
        delays_ms = [record.output / 1e6 for record in stack.records("wait")]
        started_s = time.monotonic()
        for events in lists_of(
            [Event("bench/go", {"n": n, "sent_ns": 0}) for n in range(paced, count)], LIST
        ):
            stack.producer.send(events)
        stack.wait_until(lambda: pending(stack) == 0, what="all waits to be met")
        matched_s = time.monotonic() - started_s
        stack.wait_for_finished(count)
        finished_s = time.monotonic() - started_s
    return {
        "matched_per_s": (count - paced) / matched_s,
        "p50_ms": percentile(delays_ms, 50),
        "p99_ms": percentile(delays_ms, 99),
        "finished_per_s": (count - paced) / finished_s,
        "made_per_s": count / made_s,
    }


def pending(stack: Stack) -> int:
    """How many runs wait: each has a timer for its timeout."""
    return stack.redis.zcard(f"{PREFIX}timers")


def make_waits(stack: Stack, count: int) -> None:
    sent = 0
    while (waiting := pending(stack)) < count:
        while sent < count and sent - waiting < IN_FLIGHT:
            stack.producer.send([Event("bench/wait", {"n": n}) for n in range(sent, min(sent + LIST, count))])
            sent += LIST
        time.sleep(0.01)


def send_paced(stack: Stack, count: int) -> None:
    started_s = time.monotonic()
    for n in range(count):
        time.sleep(max(0.0, started_s + n / PACED_PER_S - time.monotonic()))
        stack.producer.send("bench/go", {"n": n, "sent_ns": time.monotonic_ns()})


BENCHMARK = Benchmark(
    name="waits",
    rows=(
        Row("matched_per_s", "100,000 waits, an event each: events matched", "events/s", at_least(3_000)),
        Row("p50_ms", "send called to handler resumed, at 1,000 events/s, p50", "ms"),
        Row("p99_ms", "the same, p99", "ms", at_most(50)),
        Row("finished_per_s", "runs resumed and finished while events come as fast as they can", "runs/s"),
        Row("made_per_s", "runs that begin, wait and leave the worker", "runs/s"),
    ),
    measure=measure,
)
