"""Throttle: how often runs start; the excess waits. Rule S7.3."""

from __future__ import annotations

from dataclasses import dataclass, field

from taskflow.flow.checks import DAY_MS, check_count, check_key, period_ms
from taskflow.types import Duration

MAX_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Throttle:
    """At most `limit` runs start in a `period`, evenly spread; the others wait, in order. Rule S7.3.

    Runs start `period / limit` apart (GCRA); `burst` of them may start at once after a pause. With `key` (CEL over `event`)
    each value has a limit of its own. `period` is from 1 s to 7 days. Raises ConfigError.

        @app.function(trigger="mail/wanted", throttle=Throttle(100, "1m", burst=10))
    """

    limit: int
    period: Duration = field(compare=False)
    burst: int = 1
    key: str | None = None
    period_ms: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_count("throttle.limit", self.limit, at_most=MAX_LIMIT)
        check_count("throttle.burst", self.burst, at_most=MAX_LIMIT)
        check_key("throttle.key", self.key)
        object.__setattr__(
            self, "period_ms", period_ms("throttle.period", self.period, at_most_ms=7 * DAY_MS)
        )

    @property
    def interval_us(self) -> int:
        """How far apart runs start, in whole microseconds (rounded up), so that the store calculates exactly."""
        return -(-self.period_ms * 1_000 // self.limit)
