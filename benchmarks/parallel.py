"""A run of a hundred parallel no-op steps, on an idle system."""

from __future__ import annotations

from benchmarks.functions import BRANCHES
from benchmarks.harness import Stack
from benchmarks.report import Benchmark, Figures, Row, Scale, at_most, percentile
from benchmarks.steps import handler_to_end_ms


def measure(scale: Scale) -> Figures:
    with Stack() as stack, stack.system():
        took_ms = handler_to_end_ms(stack, "parallel", scale.pick(200, 10))
    return {"p50_ms": percentile(took_ms, 50), "p99_ms": percentile(took_ms, 99)}


BENCHMARK = Benchmark(
    name="parallel",
    rows=(
        Row("p50_ms", f"{BRANCHES} parallel steps: handler start to end heard, p50", "ms", at_most(10)),
        Row("p99_ms", "the same, p99", "ms"),
    ),
    measure=measure,
)
