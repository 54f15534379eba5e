"""How the price of a run grows with the steps that it gathers, and what a `def` step costs beside an `async def` one."""

from __future__ import annotations

import math
import statistics
import time
from typing import NamedTuple

from benchmarks.functions import BRANCHES
from benchmarks.harness import Stack, Worker
from benchmarks.machine import cpu_s
from benchmarks.report import Benchmark, Figures, Row, Scale, at_most
from taskflow.types import JsonObject

SIZES = (100, 300, 1_000)
QUICK_SIZES = (10, 20, 50)
TURNS = 5
IN_A_ROW = 500
MAPPED = 10_000
BLOCKING = 990


class Took(NamedTuple):
    """One run: from its event's send to the end that is heard, and the CPU of the workers."""

    ms: float
    cpu_ms: float


def measure(scale: Scale) -> Figures:
    sizes = QUICK_SIZES if scale.is_quick else SIZES
    turns = scale.pick(TURNS, 1)
    with Stack() as stack, stack.system() as worker:
        wide: dict[int, list[Took]] = {size: [] for size in sizes}
        for _ in range(turns):
            for size, taken in wide.items():
                taken.append(one_run(stack, worker, "wide", {"n": size}))
        mapped = [one_run(stack, worker, "mapped", {"n": scale.pick(MAPPED, 50)}) for _ in range(turns)]
        blocking = [
            one_run(stack, worker, "wide-blocking", {"n": scale.pick(BLOCKING, 50)}) for _ in range(turns)
        ]
        in_a_row = scale.pick(IN_A_ROW, 20)
        rows: dict[bool, list[Took]] = {False: [], True: []}
        for _ in range(turns):
            for is_blocking, taken in rows.items():
                fields: JsonObject = {"n": in_a_row, "is_blocking": is_blocking}
                taken.append(one_run(stack, worker, "in-a-row", fields))
    figures = {
        f"wide_{full}_ms": statistics.median(took.ms for took in wide[size])
        for full, size in zip(SIZES, sizes, strict=True)
    }
    # The sum of the turns, since a tick of the CPU's clock is 10 ms.
    used_ms = {size: sum(took.cpu_ms for took in taken) / turns for size, taken in wide.items()}
    figures |= {
        f"wide_{full}_step_us": used_ms[size] / size * 1000 for full, size in zip(SIZES, sizes, strict=True)
    }
    figures["growth"] = growth(figures[f"wide_{SIZES[0]}_ms"], figures[f"wide_{SIZES[-1]}_ms"], sizes)
    for name, taken in (("mapped", mapped), ("blocking", blocking)):
        figures[f"{name}_ms"] = statistics.median(took.ms for took in taken)
    for name, is_blocking in (("async_step", False), ("def_step", True)):
        figures[f"{name}_us"] = sum(took.cpu_ms for took in rows[is_blocking]) / turns / in_a_row * 1000
        figures[f"{name}_ms"] = statistics.median(took.ms for took in rows[is_blocking]) / in_a_row
    return figures


def growth(least_ms: float, most_ms: float, sizes: tuple[int, ...]) -> float:
    """The exponent: 1 where twice the steps take twice the time, 2 where they take four times as long."""
    return math.log(most_ms / least_ms) / math.log(sizes[-1] / sizes[0])


def one_run(stack: Stack, worker: Worker, slug: str, data: JsonObject) -> Took:
    pids = worker.pids
    with stack.ends_of_runs() as ends:
        before_s = cpu_s(pids)
        # Not from the handler's first line: a wide run is replayed, and tells of the last time that it began.
        sent_ns = time.monotonic_ns()
        stack.producer.send(f"bench/{slug}", data)
        _, heard_ns = ends.next(timeout_s=120.0)
        used_ms = (cpu_s(pids) - before_s) * 1000
    return Took((heard_ns - sent_ns) / 1e6, used_ms)


BENCHMARK = Benchmark(
    name="wide",
    rows=(
        *(
            Row(f"wide_{size}_ms", f"a run that gathers {size:,} steps: send to end heard", "ms")
            for size in SIZES[:-1]
        ),
        Row(f"wide_{SIZES[-1]}_ms", f"a run that gathers {SIZES[-1]:,} steps", "ms", at_most(600)),
        *(Row(f"wide_{size}_step_us", f"CPU of the workers for a step of {size:,}", "us") for size in SIZES),
        Row(
            "growth",
            f"exponent of the growth from {SIZES[0]} to {SIZES[-1]:,} steps (1 is linear)",
            "",
            at_most(1.1),
        ),
        Row(
            "mapped_ms", f"a run of {MAPPED:,} steps by step.map, {BRANCHES} at a time", "ms", at_most(6_000)
        ),
        Row("blocking_ms", f"a run that gathers {BLOCKING} `def` steps of 10 ms", "ms"),
        Row("async_step_us", "CPU of the workers for an `async def` step, one after the other", "us"),
        Row("def_step_us", "the same for a `def` step of an async handler", "us", at_most(70)),
        Row("async_step_ms", "an `async def` step, idle", "ms"),
        Row("def_step_ms", "a `def` step, idle", "ms"),
    ),
    measure=measure,
)
