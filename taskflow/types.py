"""Aliases, and a mark, that several modules share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, NewType, TypeAlias

Json: TypeAlias = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
JsonObject: TypeAlias = dict[str, Any]
"""A JSON object as user code sees it: values are any JSON."""

EventFields: TypeAlias = Mapping[str, Any]
"""An event on the wire as an expression reads it; `event.WireEvent` lists its fields."""

Duration: TypeAlias = str | int | float | timedelta
"""'1h30m', '2 days', seconds, or a timedelta."""

When: TypeAlias = str | int | datetime
"""An ISO-8601 string, ms since the epoch, or an aware datetime."""

RunId = NewType("RunId", str)
FunctionId = NewType("FunctionId", str)
"""`app_id/function_id`."""

Handler: TypeAlias = Callable[..., Any] | Callable[..., Awaitable[Any]]


class Unchanged(Enum):
    """The default of an edit that is not wanted. None could not say that, as None may be the outcome of a step."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED
