"""The lane of a run, as text: the limits under which it executes. Runs of a function with the same lane are limited alike.

It has the ids of the run's concurrency limits, then the id of its throttle, which counts until the run has started.
`includes/lanes.lua` reads it.
"""

from __future__ import annotations

LIMIT_SEPARATOR = "\x1e"  # between the concurrency limits
THROTTLE_SEPARATOR = "\x1d"  # before the throttle


def split_lane(lane: str) -> tuple[list[str], str | None]:
    """The ids of a lane's concurrency limits, and the id of its throttle or None."""
    limits, separator, throttle = lane.partition(THROTTLE_SEPARATOR)
    return [limit for limit in limits.split(LIMIT_SEPARATOR) if limit], throttle if separator else None
