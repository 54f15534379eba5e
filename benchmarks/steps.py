"""A run of ten sequential steps: how long it takes on an idle system, and how many a second two processes do."""

from __future__ import annotations

import statistics
import time

from benchmarks.functions import STEPS
from benchmarks.harness import Stack, Worker
from benchmarks.machine import cpu_s
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

        load_s, step_us = drain(stack, worker, "steps", under_load)
        _, def_us = drain(stack, worker, "blocking-steps", under_load)
    return {
        "p50_ms": percentile(took_ms, 50),
        "p99_ms": percentile(took_ms, 99),
        "record_ms": claim_to_end_ms,
        "blocking_p50_ms": percentile(blocking_ms, 50),
        "per_s": under_load / load_s,
        "step_us": step_us,
        "def_us": def_us,
    }


def drain(stack: Stack, worker: Worker, slug: str, count: int) -> tuple[float, float]:
    """Seconds for so many runs that are there at once, and the worker's CPU (us) for a step, its part of the run included."""
    with worker.held():
        finished = stack.finished() - stack.warm_runs
        for start in range(0, count, 100):
            stack.producer.send([Event(f"bench/{slug}")] * min(100, count - start))
        pids = worker.pids
        spent_s, released_s = cpu_s(pids), time.monotonic()
    stack.wait_for_finished(finished + count)
    return time.monotonic() - released_s, (cpu_s(pids) - spent_s) / count / STEPS * 1e6


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
        Row("step_us", "CPU of the worker for one of these steps, with its part of the run", "us"),
        Row("def_us", "the same where the steps are blocking code", "us"),
    ),
    measure=measure,
)
