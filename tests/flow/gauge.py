"""Counts who executes at one time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


@dataclass
class Gauge:
    """How many are inside at one time, by key, as those that are inside see it."""

    now: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)

    def inside(self, *keys: str) -> Inside:
        return Inside(self, keys)


@dataclass
class Inside:
    gauge: Gauge
    keys: tuple[str, ...]

    async def __aenter__(self) -> Self:
        for key in self.keys:
            self.gauge.now[key] += 1
            self.gauge.most[key] = max(self.gauge.most[key], self.gauge.now[key])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for key in self.keys:
            self.gauge.now[key] -= 1
