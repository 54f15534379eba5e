"""Durations as options of a command."""

from __future__ import annotations

import click

from taskflow.errors import InvalidDuration
from taskflow.values.durations import parse_duration_ms


def parse_duration_option(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """A click callback that parses an option's duration into ms."""
    if value is None:
        return None
    try:
        return parse_duration_ms(value)
    except InvalidDuration as error:
        raise click.BadParameter(str(error)) from None
