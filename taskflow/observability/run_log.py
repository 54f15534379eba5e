"""What the log says of runs: each failed attempt, each end that is no success, and in `taskflow dev` each start and end.

Lines carry run, function, step and attempt as fields, whoever writes them: `RunFields` reads them from context variables, which
follow the code of a handler and of its steps into tasks and threads.
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
"""Set by `taskflow dev` for its worker: starts and ends of runs are then worth a line by default."""

MAX_MESSAGE_CHARS = 1_000  # of an error in a line; the run has all of it

Facts = Mapping[str, object]

current_run: ContextVar[Facts | None] = ContextVar("taskflow_run", default=None)
"""run_id, function_id and attempt of the run whose handler, step or engine code this is."""


class ExecutingStep:
    """One attempt of a step, while its function executes."""

    __slots__ = ("attempt", "id", "misuse")

    def __init__(self, step_id: str, attempt: int) -> None:
        self.id = step_id
        # from 0
        self.attempt = attempt
        # The first step that was called inside it (S3.9): it fails for that, whatever its function makes of the error.
        self.misuse: Exception | None = None


current_step: ContextVar[ExecutingStep | None] = ContextVar("taskflow_step", default=None)
"""The step whose function this code belongs to, or None."""


class RunFields(logging.Filter):
    """Adds the run to every line that is written inside of one, plain `logging` calls of user code included."""

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
    """The level of starts and ends of runs. For who tells of them to ask once: reading the environment takes 2 us."""
    return logging.INFO if os.environ.get(LIFE_LEVEL_VARIABLE) else logging.DEBUG


def run_started(facts: Facts, level: int) -> None:
    """`level` is the `life_level`."""
    if logger.isEnabledFor(level):
        logger.log(level, "run started", extra=dict(facts))


def attempt_failed(
    facts: Facts, told: Mapping[str, Any], step: str, retry: int, retries: int, delay_ms: int | None
) -> None:
    """An attempt of a step, or of the code between the steps (`step` is empty), failed; `delay_ms` is None for the last one."""
    what = f"step {step!r}" if step else "the code between the steps"
    then = "no retry is left"
    if delay_ms is not None:
        then = f"retry {retry} of {retries} in {format_duration(max(delay_ms, 0))}"
    extra = {**facts, "step": step} if step else dict(facts)
    logger.warning("%s failed: %s; %s", what, brief(told), then, extra=extra)


def run_completed(facts: Facts, level: int) -> None:
    """`level` is the `life_level`."""
    if logger.isEnabledFor(level):
        logger.log(level, "run completed", extra=dict(facts))


def run_ended(facts: Facts, status: str, told: Mapping[str, Any]) -> None:
    """A run has failed or was cancelled here; `told` is its error, or why it was cancelled."""
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
