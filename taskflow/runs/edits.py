"""What is to be different in a rerun. Rule S10.3. Apart from `rerun`, since every app imports it, and few rerun."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from taskflow.types import JsonObject


class Unchanged(Enum):
    """What is not edited; None is an outcome like others."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED


@dataclass(frozen=True, slots=True, kw_only=True)
class Edits:
    """What is to be different in a rerun. `output` is the outcome of `from_step`."""

    from_step: str | None = None
    data: JsonObject | None = None
    output: Any = UNCHANGED


NO_EDITS = Edits()
