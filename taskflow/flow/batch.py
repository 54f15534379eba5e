"""Batch: one run for many events. Rule S7.6."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from typing import Any, ClassVar

from taskflow.errors import ConfigError
from taskflow.expressions.cel import compile_expression
from taskflow.flow.checks import DAY_MS, check_count, check_expression, check_key, period_ms
from taskflow.flow.keys import key_id
from taskflow.flow.limit import Limit
from taskflow.types import Duration, EventFields, FunctionId
from taskflow.values.record import record

MAX_EVENTS = 100


@record
class Batch(Limit):
    """Start one run for up to `max_size` events. Rule S7.6.

    The run starts when the batch is full, or `timeout` after its first event; it has the events in `ctx.events`. With `key` (CEL
    over `event`) each value has a batch of its own. An event for which `if_exp` (CEL over `event`) is not true runs alone, at once.
    `max_size` is from 2 to 100, `timeout` a duration from 1 s to 7 days. Raises ConfigError.

        @app.function(trigger="page/viewed", batch_events=Batch(100, "5s", key="event.data.site"))
    """

    max_size: int
    timeout: Duration = field(compare=False)
    key: str | None = None
    if_exp: str | None = None
    timeout_ms: int = field(init=False, repr=False)

    option: ClassVar[str] = "batch_events"
    example: ClassVar[str] = "Batch(100, '5s')"
    entry: ClassVar[str] = "batch"
    picks_events: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("batch_events.max_size", self.max_size, at_least=2, at_most=MAX_EVENTS)
        check_key("batch_events.key", self.key)
        check_expression("batch_events.if_exp", self.if_exp)
        object.__setattr__(
            self, "timeout_ms", period_ms("batch_events.timeout", self.timeout, at_most_ms=7 * DAY_MS)
        )

    def check_beside(self, others: Iterable[Limit]) -> None:
        for other in others:
            if what := other.of_one_event:
                raise ConfigError(
                    f"batch_events can't be used with {what}: a batch has many events, and this looks at one; "
                    "leave one of them out"
                )

    def plan(self, function_id: FunctionId, event: EventFields) -> list[Any] | None:
        """The batch's id, greatest size and timeout (ms); None for an event that runs alone."""
        if self.if_exp is not None and not compile_expression(
            self.if_exp, what="batch_events.if_exp"
        ).matches(event):
            return None
        return [key_id(function_id, self.key, event), self.max_size, self.timeout_ms]


def batch_reason(size: int, max_size: int, until: str) -> str:
    """The reason why a run that is still gathering its batch does not execute."""
    return f"scheduled: batch of {size} of {max_size}, starts at {until} at the latest"
