"""Log lines about runs: each failed attempt, each end without success, and in `taskflow dev` each start and end. Rule S10.6.

All lines that are written inside a run carry run, function, step and attempt as fields: `RunFields` takes them from context
variables, which follow the code of handlers and steps into tasks and threads.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from taskflow.values.durations import format_duration

logger = logging.getLogger("taskflow.runs")

LIFE_LEVEL_VARIABLE = "TASKFLOW_DEV"
"""`taskflow dev` sets this variable for its worker: starts and ends of runs are then logged at INFO instead of DEBUG."""

MAX_MESSAGE_CHARS = 1_000  # of an error's message in a line; the run keeps all of it

Facts = Mapping[str, object]

current_run: ContextVar[Facts | None] = ContextVar("taskflow_run", default=None)
"""run_id, function_id and attempt of the run for which this code executes, be it handler, step or engine."""


class ExecutingStep:
    """One attempt of a step, while its function executes."""

    __slots__ = ("attempt", "id", "misuse")

    def __init__(self, step_id: str, attempt: int) -> None:
        self.id = step_id
        # from 0
        self.attempt = attempt
        # The error of the first step that was called inside this one (S3.9). This step fails with it, even if user code caught it
        self.misuse: Exception | None = None


current_step: ContextVar[ExecutingStep | None] = ContextVar("taskflow_step", default=None)
"""The step whose function executes this code, or None. Rule S3.9."""


class RunFields(logging.Filter):
    """Adds the run's fields to every log record that is made inside a run, also by plain `logging` calls of user code."""

    def filter(self, record: logging.LogRecord) -> bool:
        facts = current_run.get()
        if facts is not None and not hasattr(record, "run_id"):
            for name, value in facts.items():
                setattr(record, name, value)
        if (step := current_step.get()) is not None and not hasattr(record, "step"):
            record.step = step.id
            record.attempt = step.attempt
        return True


def life_level() -> int:
    """The log level for starts and ends of runs. Call it once and keep the value: reading the environment takes 2 us."""
    return logging.INFO if os.environ.get(LIFE_LEVEL_VARIABLE) else logging.DEBUG


def run_started(facts: Facts, level: int) -> None:
    """Log that a run has started. `level` is the `life_level`, which the caller has read already."""
    if logger.isEnabledFor(level):
        logger.log(level, "run started", extra=dict(facts))


def attempt_failed(
    facts: Facts, told: Mapping[str, Any], step: str, retry: int, retries: int, delay_ms: int | None
) -> None:
    """Log a failed attempt of a step, or of the code between the steps (`step` is ""); `delay_ms` is None for the last attempt."""
    what = f"step {step!r}" if step else "the code between the steps"
    then = "no retry is left"
    if delay_ms is not None:
        delay = format_duration(max(delay_ms, 0))
        then = f"retry {retry} of {retries} in {delay}" if retry else f"it is tried again in {delay}"
    # The attempt that failed, as lines that the step itself has logged name it.
    extra = {**facts, "step": step, "attempt": retry - 1} if step else dict(facts)
    logger.warning("%s failed: %s; %s", what, brief(told), then, extra=extra)


def run_completed(facts: Facts, level: int) -> None:
    """Log that a run has completed. `level` is the `life_level`, which the caller has read already."""
    if logger.isEnabledFor(level):
        logger.log(level, "run completed", extra=dict(facts))


def run_ended(facts: Facts, status: str, told: Mapping[str, Any]) -> None:
    """Log that a run has failed or was cancelled in this process; `told` is its error, or why it was cancelled."""
    if status == "cancelled":
        logger.warning("run cancelled: %s", told.get("message") or "no reason was given", extra=dict(facts))
        return
    stack = str(told.get("stack") or "").rstrip()
    logger.error(
        "run failed: %s%s\nAll of it: taskflow runs show %s",
        brief(told),
        f"\n{stack}" if stack else "",
        facts.get("run_id"),
        extra=dict(facts),
    )


def brief(told: Mapping[str, Any]) -> str:
    message = str(told.get("message") or "")
    message = message if len(message) <= MAX_MESSAGE_CHARS else f"{message[:MAX_MESSAGE_CHARS]}…"
    return f"{told.get('name')}: {message}" if message else str(told.get("name"))
