"""Meter: counts what a worker's process does, on the thread of its loop. A process without metrics has none. Rule S13.1."""

from __future__ import annotations

from taskflow.observability.families import (
    ATTEMPTS_FAILED,
    EVENTS_ROUTED,
    LOOP_LAG,
    QUEUE_WAIT,
    RUN_TIME,
    RUNS_ENDED,
    RUNS_STARTED,
    STEP_TIME,
)
from taskflow.observability.metrics import Tally

MAX_ERRORS = 200
"""How many classes of errors have rows of their own. Code that makes classes as it runs must not fill the memory of Prometheus."""

OTHER = "other"
# Names of families, once: an attribute of a record costs as much again as the dictionary.
STARTED, ENDED, FAILED = RUNS_STARTED.name, RUNS_ENDED.name, ATTEMPTS_FAILED.name
WAIT, WAIT_BUCKETS = QUEUE_WAIT.name, QUEUE_WAIT.buckets
TIME, TIME_BUCKETS = RUN_TIME.name, RUN_TIME.buckets
STEP, STEP_BUCKETS = STEP_TIME.name, STEP_TIME.buckets


class Meter:
    """Counts runs, steps and events; `tally` has what was counted and not taken yet. Times are in ms."""

    __slots__ = ("errors", "tally")

    def __init__(self) -> None:
        self.tally = Tally()
        self.errors: set[str] = set()

    def events_routed(self, count: int) -> None:
        self.tally.add((EVENTS_ROUTED.name,), count)

    def run_started(self, function_id: str, cause: str, waited_ms: int) -> None:
        """Note that a run was claimed for the first time, `waited_ms` after it could have been."""
        self.tally.add((STARTED, function_id, cause))
        self.tally.observe((WAIT, function_id), WAIT_BUCKETS, max(waited_ms, 0) / 1000)

    def run_ended(self, function_id: str, status: str, error: str, took_ms: int) -> None:
        """Note that a run has ended; `error` is the class of its error, or empty."""
        self.tally.add((ENDED, function_id, status, self.known(error) if error else ""))
        self.tally.observe((TIME, function_id), TIME_BUCKETS, max(took_ms, 0) / 1000)

    def step_ended(self, function_id: str, outcome: str, took_ms: int) -> None:
        """Note that an attempt of a step has "completed" or "failed"."""
        self.tally.observe((STEP, function_id, outcome), STEP_BUCKETS, max(took_ms, 0) / 1000)

    def attempt_failed(self, function_id: str, error: str) -> None:
        self.tally.add((FAILED, function_id, self.known(error)))

    def loop_lagged(self, late_s: float) -> None:
        self.tally.observe((LOOP_LAG.name,), LOOP_LAG.buckets, max(late_s, 0))

    def known(self, error: str) -> str:
        """The error's class, or "other" once there are too many of them."""
        if error not in self.errors:
            if len(self.errors) >= MAX_ERRORS:
                return OTHER
            self.errors.add(error)
        return error
