"""Edits: the changes of a rerun against the first run. Rule S10.3."""

from __future__ import annotations

from typing import Any

from taskflow.types import UNCHANGED, JsonObject
from taskflow.values.record import record


@record(kw_only=True)
class Edits:
    """The changes of a rerun against the first run. `output` is the outcome of `from_step`."""

    from_step: str | None = None
    data: JsonObject | None = None
    output: Any = UNCHANGED


NO_EDITS = Edits()
