"""Children and seats: which child works in each seat, which one takes over next, and when a new child may start."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from taskflow.values.record import record
from taskflow.worker.link import ChildLink
from taskflow.worker.messages import Failed, Hello
from taskflow.worker.supervisor.child_process import ChildProcess, Exit

ORDERLY_EXITS = (0, -signal.SIGTERM, -signal.SIGQUIT)
"""Exit codes of a child that ended as it was told."""


@record(kw_only=True)
class RestartBackoff:
    """The pause before a dead child is replaced: none at first, then ever longer while children live less than `short_life_s`."""

    short_life_s: float = 5.0
    initial_s: float = 0.5
    maximum_s: float = 30.0

    def delay_s(self, short_lives: int) -> float:
        """The pause (s) after so many short lives in a row."""
        if short_lives == 0:
            return 0.0
        # The exponent is capped, so that weeks of dying children don't overflow the float.
        return min(self.maximum_s, self.initial_s * 2.0 ** min(short_lives - 1, 30))


@record(kw_only=True)
class Helper:
    """A process beside the children, like the beat of `worker -B`: it executes no runs and imports no user code.

    It starts once a child has said Hello, which names store and broker. It sends Ready or Failed itself, and is replaced when it
    dies, as children are.
    """

    name: str
    main: Callable[[ChildLink, Hello], int]  # the main function of the forked process; returns the exit code


class ChildState(Enum):
    STARTING = "starting"  # forked, not yet ready
    RUNNING = "running"  # ready, takes work
    DRAINING = "draining"  # was told to end


class Purpose(Enum):
    """Why a child was started."""

    FILL = "fill"  # its seat was empty
    RECYCLE = "recycle"  # its predecessor asked to be replaced
    RELOAD = "reload"  # rolling restart


@dataclass(slots=True, eq=False, kw_only=True)
class Child:
    """A child as its supervisor sees it. Times are time.monotonic()."""

    process: ChildProcess
    purpose: Purpose
    generation: int  # the number of rolling restarts that had been asked for when it started
    started_s: float
    state: ChildState = ChildState.STARTING
    said_hello: bool = False
    failure: Failed | None = None
    recycle_reason: str | None = None
    end_reason: str | None = None  # why we told it to end; None if we did not
    kill_at_s: float | None = None
    was_killed: bool = False  # whether we have killed it, with SIGKILL
    turned_ns: int = 0  # when its loop last turned, as the supervisor last saw it
    stalled_s: float = 0.0  # how long it has stood still since
    blocked_by: tuple[str, ...] = ()  # the claims in whose code it stands still
    is_stuck: bool = False  # whether it was killed for that
    is_reported: bool = False  # its stall or slow start has been logged
    name: str = "child"  # for logs; a helper has its own name

    @property
    def child_id(self) -> str:
        return self.process.child_id

    @property
    def asks_to_be_replaced(self) -> bool:
        return self.recycle_reason is not None

    def __str__(self) -> str:
        return f"{self.name} {self.child_id} (pid {self.process.pid})"

    def has_crashed(self, exit: Exit) -> bool:
        """Whether the exit was the child's own doing (S9.8).

        An exit with code 0 that nobody asked for counts: user code has called `os._exit(0)`. That the loop stood still counts if
        nobody knows by whose code, and else against that run alone (see `blamed`).
        """
        if self.is_stuck:
            return not self.blocked_by
        if self.was_killed:
            return False
        return self.end_reason is None or exit.code not in ORDERLY_EXITS

    @property
    def blamed(self) -> tuple[str, ...]:
        """The claims against which the end of the child counts, and against no others."""
        return self.blocked_by if self.is_stuck else ()

    def why(self, exit: Exit) -> str:
        """Why it died by itself, in words."""
        return exit.cause if self.failure is None else f"{self.failure.message} {self.failure.hint}".rstrip()

    def cause(self, exit: Exit) -> str:
        """How and why the child ended, in words."""
        cause = "killed by signal 9 (SIGKILL, from its supervisor)" if self.was_killed else exit.cause
        return cause if self.end_reason is None else f"{self.end_reason}: {cause}"


@dataclass(slots=True, eq=False)
class Seat:
    """A place for one working child. While `current` goes on working, its `successor` gets ready."""

    helper: Helper | None = None  # the helper that this seat is for; None for a child that executes runs
    current: Child | None = None
    successor: Child | None = None
    short_lives: int = 0
    start_at_s: float = 0.0

    @property
    def name(self) -> str:
        """What kind of process sits here, for logs."""
        return "child" if self.helper is None else self.helper.name

    @property
    def wants_child(self) -> bool:
        """Whether a child has to be started: none works here, or the working one asked to be replaced. Not for rolling restarts."""
        if self.successor is not None:
            return False
        return self.current is None or self.current.asks_to_be_replaced

    def seat_child(self, child: Child) -> None:
        """Put a new child into this seat: as `current` if that is empty, else as `successor`."""
        if self.current is None:
            self.current = child
        else:
            self.successor = child

    def promote(self) -> Child | None:
        """Let the successor, which is ready, take the place; return the predecessor."""
        predecessor, self.current, self.successor = self.current, self.successor, None
        return predecessor

    def vacate(self, child: Child) -> None:
        """Remove a child that has died. A successor that is getting ready takes its place."""
        if self.successor is child:
            self.successor = None
        elif self.current is child:
            self.current, self.successor = self.successor, None

    def note_death(self, *, lived_s: float, now_s: float, backoff: RestartBackoff) -> float:
        """Note that a child died unexpectedly; return the pause in seconds before the next one may start."""
        self.short_lives = self.short_lives + 1 if lived_s < backoff.short_life_s else 0
        delay_s = backoff.delay_s(self.short_lives)
        self.start_at_s = now_s + delay_s
        return delay_s

    def forgive(self) -> None:
        """Forget the deaths, so that the next child may start at once."""
        self.short_lives = 0
        self.start_at_s = 0.0
