"""Debounce: one run when events have calmed down. Rule S7.5."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from taskflow.errors import ConfigError
from taskflow.flow.checks import DAY_MS, check_key, period_ms
from taskflow.flow.keys import key_id
from taskflow.flow.limit import Limit
from taskflow.types import Duration, EventFields, FunctionId


@dataclass(frozen=True, slots=True)
class Debounce(Limit):
    """Run once, with the last event, when none came for `period`, or at `timeout` after the first. Rule S7.5.

    With `key` (CEL over `event`) each value is debounced by itself. `period` is from 1 s to 7 days, `timeout` (None: none) not
    shorter than it and at most 7 days. The last event is the one with the latest `ts`. Raises ConfigError.

        @app.function(trigger="doc/edited", debounce=Debounce("30s", key="event.data.doc", timeout="5m"))
    """

    period: Duration = field(compare=False)
    key: str | None = None
    timeout: Duration | None = field(default=None, compare=False)
    period_ms: int = field(init=False, repr=False)
    timeout_ms: int | None = field(init=False, repr=False)

    option: ClassVar[str] = "debounce"
    example: ClassVar[str] = "Debounce('30s')"
    entry: ClassVar[str] = "debounce"
    picks_events: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_key("debounce.key", self.key)
        period = period_ms("debounce.period", self.period, at_most_ms=7 * DAY_MS)
        timeout = None
        if self.timeout is not None:
            timeout = period_ms("debounce.timeout", self.timeout, at_most_ms=7 * DAY_MS)
            if timeout < period:
                raise ConfigError(
                    f"debounce.timeout ({self.timeout!r}) is shorter than debounce.period ({self.period!r}); "
                    "raise the one or lower the other"
                )
        object.__setattr__(self, "period_ms", period)
        object.__setattr__(self, "timeout_ms", timeout)

    @property
    def of_one_event(self) -> str:
        return self.option

    def plan(self, function_id: FunctionId, event: EventFields) -> list[Any]:
        """Its id, period (ms) and timeout (ms, or 0); `ts` and uid of the event, by which the last one is known."""
        timeout_ms = self.timeout_ms or 0
        return [key_id(function_id, self.key, event), self.period_ms, timeout_ms, event["ts"], event["uid"]]


def debounce_reason(until: str) -> str:
    """Why a run that is debounced does not execute."""
    return f"scheduled: debounced until {until}"
