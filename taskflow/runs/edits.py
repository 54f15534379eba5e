"""Edits: the changes of a rerun against the first run. Rule S10.3. Not in `rerun`, which few apps import, while all import this."""

from __future__ import annotations

from enum import Enum
from typing import Any

from taskflow.types import JsonObject
from taskflow.values.record import record


class Unchanged(Enum):
    """The default of an edit that is not wanted. None could not say that, as None may be the outcome of a step."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED


@record(kw_only=True)
class Edits:
    """The changes of a rerun against the first run. `output` is the outcome of `from_step`."""

    from_step: str | None = None
    data: JsonObject | None = None
    output: Any = UNCHANGED


NO_EDITS = Edits()
