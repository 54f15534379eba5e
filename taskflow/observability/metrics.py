"""Metrics: what a process counts, and its text for Prometheus. Rule S13.1.

Our own, and not prometheus_client: a process counts on the thread of its loop, in dictionaries without locks, and hands what it
has counted to another process once a second, which adds it up. prometheus_client locks each row, and shares rows by files.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any, TypeAlias

from taskflow.observability.families import FAMILIES, Family

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Key: TypeAlias = tuple[str, ...]
"""The name of a family, then the values of its labels."""

ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Tally:
    """Numbers by family and labels. One thread uses it."""

    __slots__ = ("gauges", "histograms", "totals")

    def __init__(self) -> None:
        self.totals: dict[Key, float] = {}
        # the counts of each bucket, of what is beyond the last one, and the sum
        self.histograms: dict[Key, list[float]] = {}
        self.gauges: dict[Key, float] = {}

    def add(self, key: Key, count: float = 1) -> None:
        """Count up. `key` begins with the name of a counter."""
        totals = self.totals
        totals[key] = totals.get(key, 0) + count

    def observe(self, key: Key, buckets: tuple[float, ...], seconds: float) -> None:
        """Count a time in its bucket. `key` begins with the name of a histogram, and `buckets` are its own."""
        row = self.histograms.get(key)
        if row is None:
            row = self.histograms[key] = [0] * (len(buckets) + 1) + [0.0]
        row[bisect_left(buckets, seconds)] += 1
        row[-1] += seconds

    def set(self, family: Family, value: float, *labels: str) -> None:
        self.gauges[family.name, *labels] = value

    def take(self) -> Tally:
        """All that was counted since the last time; this tally begins anew."""
        taken = Tally()
        taken.totals, self.totals = self.totals, {}
        taken.histograms, self.histograms = self.histograms, {}
        taken.gauges, self.gauges = self.gauges, {}
        return taken

    def merge(self, other: Tally) -> None:
        """Add the numbers of another tally to this one's, gauges too."""
        for key, count in other.totals.items():
            self.add(key, count)
        for key, row in other.histograms.items():
            known = self.histograms.get(key)
            self.histograms[key] = (
                list(row) if known is None else [a + b for a, b in zip(known, row, strict=True)]
            )
        for key, value in other.gauges.items():
            self.gauges[key] = self.gauges.get(key, 0) + value

    def to_json(self) -> list[Any]:
        return [
            [[*key, value] for key, value in rows.items()]
            for rows in (self.totals, self.histograms, self.gauges)
        ]

    @classmethod
    def from_json(cls, told: list[Any]) -> Tally:
        tally = cls()
        tally.totals, tally.histograms, tally.gauges = (
            {tuple(key): value for *key, value in rows} for rows in told
        )
        return tally


def exposition(tally: Tally) -> str:
    """The text that Prometheus reads (version 0.0.4), family by family."""
    rows: dict[str, list[str]] = {name: [] for name in FAMILIES}
    for key, value in (*tally.totals.items(), *tally.gauges.items()):
        rows[key[0]].append(f"{key[0]}{labels_of(key)} {number(value)}")
    for key, row in tally.histograms.items():
        rows[key[0]] += histogram_lines(FAMILIES[key[0]], key, row)
    lines: list[str] = []
    for name, found in rows.items():
        if found:
            family = FAMILIES[name]
            lines += [
                f"# HELP {name} {family.help}",
                f"# TYPE {name} {family.kind}",
                *sorted_rows(family, found),
            ]
    return "\n".join(lines) + "\n"


def sorted_rows(family: Family, rows: list[str]) -> list[str]:
    # The lines of a histogram stand in the order of its buckets.
    return rows if family.buckets else sorted(rows)


def histogram_lines(family: Family, key: Key, row: list[float]) -> Iterable[str]:
    *counts, total_s = row
    so_far: float = 0
    for bound, count in zip((*map(number, family.buckets), "+Inf"), counts, strict=True):
        so_far += count
        yield f"{family.name}_bucket{labels_of(key, le=bound)} {number(so_far)}"
    yield f"{family.name}_sum{labels_of(key)} {number(total_s)}"
    yield f"{family.name}_count{labels_of(key)} {number(so_far)}"


def labels_of(key: Key, *, le: str = "") -> str:
    names = FAMILIES[key[0]].labels
    pairs = [f'{name}="{value.translate(ESCAPED)}"' for name, value in zip(names, key[1:], strict=True)]
    if le:
        pairs.append(f'le="{le}"')
    return f"{{{','.join(pairs)}}}" if pairs else ""


def number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(round(value, 6))
