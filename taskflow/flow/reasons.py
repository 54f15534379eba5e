"""Says in words which limit a queued run waits for. Rule S10.5."""

from __future__ import annotations

from collections.abc import Sequence

from taskflow.flow.concurrency import ConcurrencyLevel
from taskflow.flow.throttle import ThrottleLevel
from taskflow.values.record import record


@record
class LaneState:
    """The limits of a queued run in their present state."""

    ahead: int | None  # how many ready runs with the same limits go first
    levels: Sequence[ConcurrencyLevel | ThrottleLevel]


def lane_reason(lane: LaneState, *, now_ms: int) -> str | None:
    """'queued: concurrency key "acme" is at 10 of 10, 3 ahead'; None when no limit holds the run up."""
    behind = f", {lane.ahead:,} ahead" if lane.ahead else ""
    for level in lane.levels:
        if reason := level.reason(now_ms):
            return f"queued: {reason}{behind}"
    return None
