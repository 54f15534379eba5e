"""What a benchmark is, what it gives, and how that is shown: a table for people, JSON for programs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a figure is to reach: at least or at most `limit`."""

    limit: float
    is_minimum: bool

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.is_minimum else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.is_minimum else '<='} {number(self.limit)}"


def at_least(limit: float) -> Target:
    return Target(limit=limit, is_minimum=True)


def at_most(limit: float) -> Target:
    return Target(limit=limit, is_minimum=False)


@dataclass(frozen=True, slots=True)
class Row:
    """A figure that a benchmark gives: its key in the JSON, what it says, its unit, and its target if it has one."""

    key: str
    says: str
    unit: str
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """How much to measure: all, or just enough to see that the benchmark works."""

    is_quick: bool

    def pick(self, full: int, quick: int) -> int:
        return quick if self.is_quick else full


Figures = Mapping[str, float]  # by the keys of the rows; one that can't be measured is left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One repetition is one call of `measure`, which starts all that it needs and leaves nothing behind."""

    name: str
    rows: Sequence[Row]
    measure: Callable[[Scale], Figures]


class Unavailable(Exception):
    """The benchmark can't run here; the text says why."""


@dataclass(slots=True)
class Outcome:
    """The repetitions of one benchmark."""

    benchmark: Benchmark
    repetitions: list[Figures] = field(default_factory=list)
    problem: str = ""

    def values(self, row: Row) -> list[float]:
        return [figures[row.key] for figures in self.repetitions if row.key in figures]


def number(value: float) -> str:
    """Three digits that matter, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def verdict(row: Row, values: Sequence[float]) -> str:
    if row.target is None or not values:
        return ""
    return "ok" if row.target.is_met(statistics.median(values)) else "short"


TITLES = ("benchmark", "figure", "median", "min - max", "unit", "target", "")
NUMBERS = (2, 3)  # the columns that are set flush right


def table(outcomes: Sequence[Outcome]) -> str:
    """Plain text, a line a figure."""
    lines: list[tuple[str, ...]] = [TITLES]
    for outcome in outcomes:
        name = outcome.benchmark.name
        if outcome.problem:
            lines.append((name, outcome.problem, "", "", "", "", "not measured"))
            continue
        for row in outcome.benchmark.rows:
            values = outcome.values(row)
            median = number(statistics.median(values)) if values else "-"
            span = f"{number(min(values))} - {number(max(values))}" if len(values) > 1 else ""
            target = str(row.target) if row.target else ""
            lines.append((name, row.says, median, span, row.unit, target, verdict(row, values)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(TITLES))]
    return "\n".join("  ".join(cells(line, widths)).rstrip() for line in lines)


def cells(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        text.rjust(width) if column in NUMBERS else text.ljust(width)
        for column, (text, width) in enumerate(zip(line, widths, strict=True))
    ]


def as_json(outcomes: Sequence[Outcome], machine: Mapping[str, Any]) -> dict[str, Any]:
    """Everything: all values of all repetitions, and the machine they were taken on."""
    return {
        "machine": dict(machine),
        "benchmarks": {each.benchmark.name: outcome_json(each) for each in outcomes},
    }


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for row in outcome.benchmark.rows:
        values = outcome.values(row)
        if values:
            figures[row.key] = {
                "says": row.says,
                "unit": row.unit,
                "median": statistics.median(values),
                "values": values,
                "target": str(row.target) if row.target else None,
                "verdict": verdict(row, values) or None,
            }
    return {"problem": outcome.problem or None, "figures": figures}


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = max(0, min(len(ordered) - 1, round(percent / 100 * len(ordered) + 0.5) - 1))
    return ordered[rank]
