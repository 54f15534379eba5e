"""Rate limit: how often runs start; the excess is skipped. Rule S7.4."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar

from taskflow.flow.checks import DAY_MS, check_count, check_key, period_ms
from taskflow.flow.keys import key_id
from taskflow.flow.limit import Limit
from taskflow.types import Duration, EventFields, FunctionId
from taskflow.values.record import record

MAX_LIMIT = 1_000_000


@record
class RateLimit(Limit):
    """Start at most `limit` runs at once, then one more each `period / limit`; record the excess as skipped. Rule S7.4.

    With `key` (CEL over `event`) each value has a limit of its own. `period` is a duration from 1 s to 24 h. Raises ConfigError.

        @app.function(trigger="doc/changed", rate_limit=RateLimit(1, "10m", key="event.data.doc"))
    """

    limit: int
    period: Duration = field(compare=False)
    key: str | None = None
    period_ms: int = field(init=False, repr=False)

    option: ClassVar[str] = "rate_limit"
    example: ClassVar[str] = "RateLimit(10, '1h')"
    entry: ClassVar[str] = "rate"
    picks_events: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("rate_limit.limit", self.limit, at_most=MAX_LIMIT)
        check_key("rate_limit.key", self.key)
        object.__setattr__(self, "period_ms", period_ms("rate_limit.period", self.period, at_most_ms=DAY_MS))

    @property
    def of_one_event(self) -> str:
        return self.option

    def plan(self, function_id: FunctionId, event: EventFields) -> list[Any]:
        """The rate limit's id, period (ms) and limit."""
        return [key_id(function_id, self.key, event), self.period_ms, self.limit]
