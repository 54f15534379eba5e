"""Which limit a queued run waits for, in words. Rule S10.5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taskflow.flow.plan import LIMIT_SEPARATOR, THROTTLE_SEPARATOR
from taskflow.values.durations import format_duration

PREFIX_PARTS = {"fn": 3, "app": 2, "account": 1}  # of a limit's id, before the value of its key


@dataclass(frozen=True, slots=True)
class LimitLevel:
    """How many execute under a concurrency limit; `key` is the value of its key as JSON, or empty."""

    key: str
    held: int
    most: int


@dataclass(frozen=True, slots=True)
class LaneState:
    """What limits a queued run: the levels of its concurrency limits, and when (ms) its throttle lets the next run start."""

    ahead: int | None  # ready runs with the same limits that go first
    levels: Sequence[LimitLevel]
    throttle_key: str = ""
    opens_ms: int = 0


def split_lane(lane: str) -> tuple[list[str], str | None]:
    """The ids of a lane's concurrency limits, and of its throttle. `flow.plan.lane_of` writes them."""
    limits, separator, throttle = lane.partition(THROTTLE_SEPARATOR)
    return [limit for limit in limits.split(LIMIT_SEPARATOR) if limit], throttle if separator else None


def key_of_limit(limit_id: str) -> str:
    """The value of the key in a limit's id, as JSON; empty without a key."""
    kind = limit_id.partition(":")[0]
    return limit_id.split(":", PREFIX_PARTS[kind])[-1]


def lane_reason(lane: LaneState, *, now_ms: int) -> str | None:
    """'queued: concurrency key "acme" is at 10 of 10, 3 ahead'; None when no limit holds the run up."""
    behind = f", {lane.ahead:,} ahead" if lane.ahead else ""
    for level in lane.levels:
        if level.held >= level.most:
            key = f" key {level.key}" if level.key else ""
            return f"queued: concurrency{key} is at {level.held:,} of {level.most:,}{behind}"
    if lane.opens_ms > now_ms:
        key = f" key {lane.throttle_key}" if lane.throttle_key else ""
        return f"queued: throttle{key} lets the next run start in {format_duration(lane.opens_ms - now_ms)}{behind}"
    return None
