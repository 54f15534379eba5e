"""Timeouts: how long a run and its steps may take. Rule S6.3."""

from __future__ import annotations

from dataclasses import field

from taskflow.errors import ConfigError, InvalidDuration
from taskflow.types import Duration
from taskflow.values.durations import parse_duration_ms
from taskflow.values.record import record


@record
class Timeouts:
    """How long a run and its steps may take. Rule S6.3.

        @app.function(trigger="pdf/requested", timeouts=Timeouts(start="10m", finish="1h", step="30s"))

    For a task, `soft` raises SoftTimeLimit in its code after that time of an attempt, once, and `hard` ends the attempt, whatever
    the code does (S15.2).
    `start` limits the time from when the run is due to its first attempt, `finish` the time from the first attempt to the end; a
    run that exceeds one of them is cancelled. `step` limits one attempt of a step or body (S4.7), which then fails with
    StepTimeout. Each is a duration ("1h30m", seconds or a timedelta), more than 0 and at most 1 year; None, the default, is no
    limit. Raises ConfigError.
    """

    start: Duration | None = field(default=None, compare=False)
    finish: Duration | None = field(default=None, compare=False)
    step: Duration | None = field(default=None, compare=False)
    soft: Duration | None = field(default=None, compare=False)
    hard: Duration | None = field(default=None, compare=False)
    start_ms: int | None = field(init=False, repr=False)
    finish_ms: int | None = field(init=False, repr=False)
    step_ms: int | None = field(init=False, repr=False)
    soft_ms: int | None = field(init=False, repr=False)
    hard_ms: int | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "start_ms", limit_ms("timeouts.start", self.start))
        object.__setattr__(self, "finish_ms", limit_ms("timeouts.finish", self.finish))
        object.__setattr__(self, "step_ms", limit_ms("timeouts.step", self.step))
        object.__setattr__(self, "soft_ms", limit_ms("timeouts.soft", self.soft))
        object.__setattr__(self, "hard_ms", limit_ms("timeouts.hard", self.hard))
        if self.soft_ms is not None and self.hard_ms is not None and self.soft_ms >= self.hard_ms:
            raise ConfigError(
                f"timeouts.soft ({self.soft!r}) must be less than timeouts.hard ({self.hard!r})"
            )


def limit_ms(option: str, value: Duration | None) -> int | None:
    if value is None:
        return None
    try:
        ms = parse_duration_ms(value, what=option)
    except InvalidDuration as error:
        raise ConfigError(str(error)) from error
    if ms == 0:
        raise ConfigError(f"{option} must be more than 0, got {value!r}; for no limit leave it out")
    return ms
