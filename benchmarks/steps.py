"""A run of ten sequential steps: how long it takes on an idle system, and how many a second two processes do."""

from __future__ import annotations

import statistics
import time

from benchmarks.functions import STEPS
from benchmarks.harness import Stack
from benchmarks.report import Benchmark, Figures, Row, Scale, at_least, at_most, percentile
from taskflow.event import Event

GAP_S = 0.005  # idle time between two runs


def measure(scale: Scale) -> Figures:
    runs, under_load = scale.pick(300, 20), scale.pick(3_000, 100)
    with Stack() as stack, stack.system() as worker:
        took_ms = handler_to_end_ms(stack, "steps", runs)
        blocking_ms = handler_to_end_ms(stack, "blocking-steps", runs)
        records = stack.records("steps")
        claim_to_end_ms = statistics.fmean(record.ended_ms - record.started_ms for record in records)

        with worker.held():
            finished = stack.finished() - stack.warm_runs
            for start in range(0, under_load, 100):
                stack.producer.send([Event("bench/steps")] * min(100, under_load - start))
            released_s = time.monotonic()
        stack.wait_for_finished(finished + under_load)
        load_s = time.monotonic() - released_s
    return {
        "p50_ms": percentile(took_ms, 50),
        "p99_ms": percentile(took_ms, 99),
        "record_ms": claim_to_end_ms,
        "blocking_p50_ms": percentile(blocking_ms, 50),
        "per_s": under_load / load_s,
    }


def handler_to_end_ms(stack: Stack, slug: str, count: int) -> list[float]:
    """One run after the other: from the handler's first line until another process hears that the run has ended."""
    took_ms: list[float] = []
    with stack.ends_of_runs() as ends:
        for _ in range(count):
            stack.producer.send(f"bench/{slug}")
            run_id, heard_ns = ends.next()
            took_ms.append((heard_ns - stack.output(run_id)) / 1e6)
            time.sleep(GAP_S)
    return took_ms


BENCHMARK = Benchmark(
    name="steps",
    rows=(
        Row("p50_ms", f"{STEPS} steps, idle: handler start to end heard, p50", "ms", at_most(4)),
        Row("p99_ms", "the same, p99", "ms"),
        Row("record_ms", "claim to finish by the run's record, mean", "ms", at_most(4)),
        Row("blocking_p50_ms", "the steps are blocking code, p50", "ms"),
        Row("per_s", f"runs of {STEPS} steps under load", "runs/s", at_least(1_000)),
    ),
    measure=measure,
)
