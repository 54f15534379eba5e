"""Durations and points in time as users write them, in whole milliseconds. Rule S3.2."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from taskflow.errors import InvalidDuration
from taskflow.types import Duration, When

MAX_DURATION_MS = 366 * 86_400_000  # "at most 1 year", leap years included
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ONE_MICROSECOND = timedelta(microseconds=1)

UNIT_MS = {
    unit: ms
    for units, ms in (
        (("ms", "millisecond", "milliseconds"), 1),
        (("s", "sec", "secs", "second", "seconds"), 1_000),
        (("m", "min", "mins", "minute", "minutes"), 60_000),
        (("h", "hr", "hrs", "hour", "hours"), 3_600_000),
        (("d", "day", "days"), 86_400_000),
        (("w", "week", "weeks"), 604_800_000),
    )
    for unit in units
}
NUMBER = r"[0-9]+(?:\.[0-9]+)?"
PART = re.compile(rf"({NUMBER})\s*([a-z]+)")
PARTS = re.compile(rf"{NUMBER}\s*[a-z]+(?:[\s,]*{NUMBER}\s*[a-z]+)*")
BARE_NUMBER = re.compile(NUMBER)
MAX_CHARS = 100

HOW = "Write it like '1h30m', '2 days', '1.5s', '500ms', as a number of seconds, or as a timedelta."
HOW_WHEN = (
    "Write it as an aware datetime, as ISO-8601 text with an offset like '2030-01-31T12:00:00Z' or "
    "'...+02:00', or as an int of ms since the epoch."
)


def parse_duration_ms(value: Duration, *, what: str = "duration") -> int:
    """`value` in ms: "1h30m", "2 days", "1.5s", "500ms", seconds (int, float, text), a timedelta. Rule S3.2.

    From 0 to 366 days. Fractions of a ms are rounded, but never down to 0.
    Raises InvalidDuration, which names `what`, if the value is negative, longer, or can't be read.
    """
    seconds = seconds_in(value, what)
    if seconds < 0:
        raise InvalidDuration(f"{what} must not be negative, got {shown(value)}. {HOW}")
    if seconds * 1000 > MAX_DURATION_MS:
        raise InvalidDuration(f"{what} must be at most 1 year (366 days), got {shown(value)}. {HOW}")
    return whole_ms(seconds * 1000)


def parse_when_ms(value: When, *, now_ms: int, what: str = "when") -> int:
    """`value` in ms since the epoch: an aware datetime, ISO-8601 with an offset, or an int of ms. Rule S3.2.

    It may be in the past. Raises InvalidDuration, which names `what`, if it is more than 1 year after `now_ms`,
    has no time zone, or can't be read.
    """
    # Not isinstance: True is no time.
    at_ms = value if type(value) is int else datetime_ms(moment_of(value, what), value, what)
    if at_ms - now_ms > MAX_DURATION_MS:
        raise InvalidDuration(
            f"{what} must be at most 1 year (366 days) ahead, got {shown(value)}. {HOW_WHEN}"
        )
    return at_ms


def format_duration(ms: int) -> str:
    """`ms` for humans, in at most two units: "250 ms", "1.5 s", "37 s", "1 h 30 min", "2 d 3 h"."""
    if ms < 0:
        return "-" + format_duration(-ms)
    if ms < 1_000:
        return f"{ms} ms" if ms else "0 s"
    if ms < 9_950:
        return f"{ms / 1000:.1f}".removesuffix(".0") + " s"
    units = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000))
    position = next(index for index, (_, unit_ms) in enumerate(units) if ms >= unit_ms)
    # Round to the smaller of the two units first, or 59.9 s would read as "60 s".
    finest_ms = units[min(position + 1, 3)][1]
    rounded_ms = (ms + finest_ms // 2) // finest_ms * finest_ms
    parts = []
    for name, unit_ms in units:
        count, rounded_ms = divmod(rounded_ms, unit_ms)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts)


def seconds_in(value: object, what: str) -> Decimal:
    """`value` in seconds, exactly. Raises InvalidDuration."""
    if isinstance(value, timedelta):
        return Decimal(value // ONE_MICROSECOND) / 1_000_000
    if isinstance(value, bool):
        raise InvalidDuration(f"{what} must be a duration, got {value!r}. {HOW}")
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, float):
        # The shortest decimal form of the float counts, so that 0.1 is exactly 100 ms.
        seconds = Decimal(float.__repr__(value))
        if not seconds.is_finite():
            raise InvalidDuration(f"{what} must be a finite number of seconds, got {value!r}. {HOW}")
        return seconds
    if isinstance(value, str):
        return seconds_in_text(value, what)
    raise InvalidDuration(f"{what} must be a duration, got {type(value).__name__}. {HOW}")


def seconds_in_text(value: str, what: str) -> Decimal:
    text = value.strip().lower()
    is_negative = text.startswith("-")
    text = text.removeprefix("-").lstrip()
    if len(text) > MAX_CHARS:
        raise InvalidDuration(f"{what} can't be read: {shown(value)}. {HOW}")
    if BARE_NUMBER.fullmatch(text):
        total = Decimal(text)
    elif PARTS.fullmatch(text):
        total = Decimal(0)
        for number, unit in PART.findall(text):
            if unit not in UNIT_MS:
                raise InvalidDuration(f"{what} has the unknown unit {unit!r}: {shown(value)}. {HOW}")
            total += Decimal(number) * UNIT_MS[unit] / 1000
    else:
        raise InvalidDuration(f"{what} can't be read: {shown(value)}. {HOW}")
    return -total if is_negative else total


def whole_ms(ms: Decimal) -> int:
    rounded = int(ms.to_integral_value(ROUND_HALF_UP))
    return 1 if rounded == 0 and ms > 0 else rounded


def moment_of(value: object, what: str) -> datetime:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise InvalidDuration(
            f"{what} must be a point in time, got {type(value).__name__} {shown(value)}. {HOW_WHEN}"
        )
    try:
        return datetime.fromisoformat(value.strip())
    except ValueError as error:
        raise InvalidDuration(f"{what} can't be read: {shown(value)}. {HOW_WHEN}") from error


def datetime_ms(moment: datetime, value: object, what: str) -> int:
    if moment.utcoffset() is None:
        raise InvalidDuration(f"{what} has no time zone: {shown(value)}. {HOW_WHEN}")
    # Rounded up: a run must not go on before the moment that the user gave.
    return -(-((moment - EPOCH) // ONE_MICROSECOND) // 1000)


def shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an int of thousands of digits
        return f"a huge {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
