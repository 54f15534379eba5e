"""Points in time as people read them: local and short, with the date only if it isn't today."""

from __future__ import annotations

from datetime import datetime, tzinfo

UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000))
DAY_MS = 86_400_000


def moment(ms: int, zone: tzinfo | None = None) -> datetime:
    """`ms` since the epoch as an aware datetime of `zone`, by default the local one."""
    return datetime.fromtimestamp(ms / 1000, zone) if zone else datetime.fromtimestamp(ms / 1000).astimezone()


def date_and_time(ms: int, zone: tzinfo | None = None) -> str:
    """`ms` since the epoch as "2030-01-31 12:00:03"."""
    return moment(ms, zone).strftime("%Y-%m-%d %H:%M:%S")


def time_of_day(ms: int, *, now_ms: int, zone: tzinfo | None = None) -> str:
    """`ms` since the epoch as "12:00:03", as "12:00" at a full minute, and as "2030-01-31 12:00" on another day than `now_ms`."""
    when = moment(ms, zone)
    text = when.strftime("%H:%M:%S") if when.second else when.strftime("%H:%M")
    return text if when.date() == moment(now_ms, zone).date() else f"{when:%Y-%m-%d} {text}"


def relative(ms: int, *, now_ms: int) -> str:
    """How far `ms` is from `now_ms`, in one unit: "now", "37 s ago", "in 3 min", "2 d ago"."""
    distance_ms = abs(now_ms - ms)
    if distance_ms < 1_000:
        return "now"
    name, unit_ms = next((name, unit_ms) for name, unit_ms in UNITS if distance_ms >= unit_ms)
    count = distance_ms // unit_ms
    return f"{count} {name} ago" if ms < now_ms else f"in {count} {name}"
