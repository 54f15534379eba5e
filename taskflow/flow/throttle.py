"""Throttle: how often runs start; the excess waits. Rule S7.3."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

from taskflow.flow.checks import DAY_MS, check_count, check_key, period_ms
from taskflow.flow.keys import key_id
from taskflow.flow.lane import THROTTLE_SEPARATOR
from taskflow.flow.limit import LaneLimit
from taskflow.types import Duration, EventFields, FunctionId
from taskflow.values.durations import format_duration
from taskflow.values.record import record

MAX_LIMIT = 1_000_000


@record
class Throttle(LaneLimit):
    """Start at most `limit` runs in a `period`, evenly spread; the others wait, in order. Rule S7.3.

    Runs start `period / limit` apart (GCRA); `burst` of them may start at once after a pause. With `key` (CEL over `event`)
    each value has a limit of its own. `period` is a duration from 1 s to 7 days. Raises ConfigError.

        @app.function(trigger="mail/wanted", throttle=Throttle(100, "1m", burst=10))
    """

    limit: int
    period: Duration = field(compare=False)
    burst: int = 1
    key: str | None = None
    period_ms: int = field(init=False, repr=False)

    option: ClassVar[str] = "throttle"
    example: ClassVar[str] = "Throttle(100, '1m')"

    def __post_init__(self) -> None:
        check_count("throttle.limit", self.limit, at_most=MAX_LIMIT)
        check_count("throttle.burst", self.burst, at_most=MAX_LIMIT)
        check_key("throttle.key", self.key)
        object.__setattr__(
            self, "period_ms", period_ms("throttle.period", self.period, at_most_ms=7 * DAY_MS)
        )

    @property
    def interval_us(self) -> int:
        """The time between two starts in microseconds, rounded up to whole ones so that the store calculates exactly."""
        return -(-self.period_ms * 1_000 // self.limit)

    @property
    def tolerance_us(self) -> int:
        """How far (us) before its due time a run may start."""
        return self.interval_us * (self.burst - 1)

    @property
    def settings(self) -> str:
        return f"{self.interval_us} {self.tolerance_us}"

    def lane(self, function_id: FunctionId, event: EventFields) -> str:
        return THROTTLE_SEPARATOR + key_id(function_id, self.key, event)

    def level(self, throttle_id: str, full_us: int) -> ThrottleLevel:
        """The state of the throttle for a lane; at `full_us` the next start is due if all runs keep their distance."""
        return ThrottleLevel(throttle_id.partition(":")[2], -(-(full_us - self.tolerance_us) // 1_000))


@record
class ThrottleLevel:
    """The state of a throttle: when (ms) it lets the next run start. `key` is the value of its key as JSON, or empty."""

    key: str
    opens_ms: int

    def reason(self, now_ms: int) -> str | None:
        """The reason why a run waits for the throttle; None if it need not wait."""
        if self.opens_ms <= now_ms:
            return None
        key = f" key {self.key}" if self.key else ""
        return f"throttle{key} lets the next run start in {format_duration(self.opens_ms - now_ms)}"
