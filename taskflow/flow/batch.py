"""Batch: one run for many events. Rule S7.6."""

from __future__ import annotations

from dataclasses import dataclass, field

from taskflow.flow.checks import DAY_MS, check_count, check_expression, check_key, period_ms
from taskflow.types import Duration

MAX_EVENTS = 100


@dataclass(frozen=True, slots=True)
class Batch:
    """One run for up to `max_size` events, which are in `ctx.events`; it starts when full, or `timeout` after the first. Rule S7.6.

    With `key` (CEL over `event`) each value has a batch of its own. An event for which `if_exp` (CEL) is not true runs alone, at
    once. `max_size` is from 2 to 100, `timeout` from 1 s to 7 days. Raises ConfigError.

        @app.function(trigger="page/viewed", batch_events=Batch(100, "5s", key="event.data.site"))
    """

    max_size: int
    timeout: Duration = field(compare=False)
    key: str | None = None
    if_exp: str | None = None
    timeout_ms: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_count("batch_events.max_size", self.max_size, at_least=2, at_most=MAX_EVENTS)
        check_key("batch_events.key", self.key)
        check_expression("batch_events.if_exp", self.if_exp)
        object.__setattr__(
            self, "timeout_ms", period_ms("batch_events.timeout", self.timeout, at_most_ms=7 * DAY_MS)
        )
