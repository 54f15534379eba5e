"""World: virtual time, a seeded order, and the processes that live in it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Protocol

from tests.simulation.history import History

START_MS = 1_893_456_000_000  # 2030-01-01 00:00 UTC
TURN_US = 20  # what one turn of a process's loop takes
US_PER_S = 1_000_000
MAX_TURNS = (
    2_000_000  # of all processes in one simulation; more means that one turns without getting anywhere
)


class Stuck(Exception):
    """The processes turn without end, or nothing is left to happen before the simulation's end."""


class Turning(Protocol):
    """A process, as the world sees it."""

    def is_busy(self) -> bool:
        """Whether it has something to do now."""
        ...

    def due_us(self) -> int | None:
        """When its next timer is due; None when it has none, is paused or dead."""
        ...

    def turn(self) -> None:
        """One iteration of its loop."""
        ...


class World:
    """Everything that happens, happens in `turn`: an event of the world, or one iteration of one process's loop.

    All chance comes from `random`, which the seed determines, so a seed gives the same history each time.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now_us = START_MS * 1_000
        self.history = History(self)
        self.processes: list[Turning] = []
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.count = 0  # of events so far
        self.turns = 0

    @property
    def now_ms(self) -> int:
        return self.now_us // 1_000

    @property
    def elapsed_s(self) -> float:
        """Seconds since the simulation began."""
        return (self.now_us - START_MS * 1_000) / US_PER_S

    def at(self, due_us: int, action: Callable[[], None]) -> None:
        """Do it then."""
        self.count += 1
        heapq.heappush(self.events, (due_us, self.count, action))

    def later(self, delay_us: int, action: Callable[[], None]) -> None:
        self.at(self.now_us + delay_us, action)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def between(self, low: float, high: float) -> float:
        return self.random.uniform(low, high)

    def jump(self, delay_us: int) -> None:
        """Time passes, and nobody can do anything meanwhile."""
        self.now_us += delay_us

    def run_until(self, is_done: Callable[[], bool], *, limit_s: float) -> bool:
        """Turn until `is_done()`, which is asked before each turn, or for `limit_s` virtual seconds; whether it was done."""
        end_us = self.now_us + int(limit_s * US_PER_S)
        while not is_done():
            if self.now_us >= end_us:
                return False
            self.turn(end_us)
        return True

    def run_for(self, duration_s: float) -> None:
        self.run_until(lambda: False, limit_s=duration_s)

    def turn(self, end_us: int) -> None:
        if self.events and self.events[0][0] <= self.now_us:
            heapq.heappop(self.events)[2]()
            return
        busy = [process for process in self.processes if process.is_busy()]
        if not busy:
            self.now_us = min(self.next_due_us(end_us), end_us)
            return
        self.turns += 1
        if self.turns > MAX_TURNS:
            raise Stuck(
                f"the processes have turned {MAX_TURNS:,} times: one of them turns without getting anywhere"
            )
        (busy[0] if len(busy) == 1 else self.random.choice(busy)).turn()
        self.now_us += TURN_US

    def next_due_us(self, end_us: int) -> int:
        times = [due_us for process in self.processes if (due_us := process.due_us()) is not None]
        if self.events:
            times.append(self.events[0][0])
        return max(min(times, default=end_us), self.now_us)
