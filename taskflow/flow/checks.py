"""Checks of options that several limits share. Rule S2.5."""

from __future__ import annotations

from taskflow.errors import ConfigError, InvalidDuration
from taskflow.expressions.cel import compile_expression, compile_key
from taskflow.types import Duration
from taskflow.values.durations import format_duration, parse_duration_ms

SECOND_MS = 1_000
DAY_MS = 86_400_000


def check_count(option: str, value: int, *, at_most: int, at_least: int = 1) -> None:
    """Raise ConfigError unless `value` is an int within the bounds."""
    if type(value) is not int or not at_least <= value <= at_most:
        raise ConfigError(f"{option} must be an int from {at_least} to {at_most:,}, got {value!r:.80}")


def period_ms(option: str, value: Duration, *, at_most_ms: int, at_least_ms: int = SECOND_MS) -> int:
    """`value` (a duration) in ms. Raises ConfigError when it can't be read or is out of bounds."""
    try:
        ms = parse_duration_ms(value, what=option)
    except InvalidDuration as error:
        raise ConfigError(str(error)) from error
    if not at_least_ms <= ms <= at_most_ms:
        raise ConfigError(
            f"{option} must be from {format_duration(at_least_ms)} to {format_duration(at_most_ms)}, got {value!r}"
        )
    return ms


def check_key(option: str, source: str | None) -> None:
    """Raise ConfigError unless `source` is None or a CEL expression over `event` that may give a key (S7)."""
    if source is not None:
        compile_key(source, what=option)


def check_expression(option: str, source: str | None) -> None:
    """Raise ConfigError unless `source` is None or a CEL expression over `event`."""
    if source is not None:
        compile_expression(source, what=option)
