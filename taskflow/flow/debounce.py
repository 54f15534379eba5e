"""Debounce: one run when events have calmed down. Rule S7.5."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar

from taskflow.errors import ConfigError
from taskflow.flow.checks import DAY_MS, check_key, period_ms
from taskflow.flow.keys import key_id
from taskflow.flow.limit import Limit
from taskflow.types import Duration, EventFields, FunctionId
from taskflow.values.record import record


@record
class Debounce(Limit):
    """Start one run, with the last event, when no event came for `period`, or at `timeout` after the first event. Rule S7.5.

    The last event is the one with the latest `ts`. With `key` (CEL over `event`) each value is debounced by itself. `period` is a
    duration from 1 s to 7 days; `timeout` is one from `period` to 7 days, or None for no such end. Raises ConfigError.

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
        """The debounce's id, period (ms), timeout (ms, or 0), and the event's `ts` and uid, by which the last event is found."""
        timeout_ms = self.timeout_ms or 0
        return [key_id(function_id, self.key, event), self.period_ms, timeout_ms, event["ts"], event["uid"]]


def debounce_reason(until: str) -> str:
    """The reason why a debounced run does not execute yet."""
    return f"scheduled: debounced until {until}"
