"""From `send` to the first line of the handler, on an idle system."""

from __future__ import annotations

import random
import time

from benchmarks.harness import Stack
from benchmarks.report import Benchmark, Figures, Row, Scale, at_most, percentile


def measure(scale: Scale) -> Figures:
    count = scale.pick(1_000, 30)
    sent_ns: list[int] = []
    with Stack() as stack, stack.system():
        for _ in range(count):
            sent_ns.append(time.monotonic_ns())
            stack.producer.send("bench/stamp")
            time.sleep(random.uniform(0.004, 0.012))
        stack.wait_for_finished(count)
        records = stack.records("stamp")
    # Run ids begin with the ULID of their event, so the order of the ids is that of the sends.
    started_ns = [record.output for record in sorted(records, key=lambda record: record.run_id)]
    delays_ms = [(started - sent) / 1e6 for sent, started in zip(sent_ns, started_ns, strict=True)]
    return {
        "p50_ms": percentile(delays_ms, 50),
        "p99_ms": percentile(delays_ms, 99),
        "max_ms": max(delays_ms),
    }


BENCHMARK = Benchmark(
    name="latency",
    rows=(
        Row("p50_ms", "send called to handler started, idle, p50", "ms", at_most(1)),
        Row("p99_ms", "the same, p99", "ms", at_most(2)),
        Row("max_ms", "the same, slowest", "ms"),
    ),
    measure=measure,
)
