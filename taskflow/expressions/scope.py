"""Scope: where the closures of a compiled expression find their variables.

Most expressions have no macros, and their closures take `event` and `async`. In an expression with macros all closures take a
frame in place of `event`: a list of the event, the async event, the budget, and one slot for each macro around the closure, which
holds the element that the macro looks at. A frame lives for one evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import Any, TypeAlias

from taskflow.values.record import record

Closure: TypeAlias = Callable[[Any, Any], Any]
"""A function of `event` and `async`; or of a frame, and then the second argument is ignored."""

Frame: TypeAlias = list[Any]

EVENT, ASYNC, BUDGET, FIRST_SLOT = range(4)

MAX_NESTED = 8
NO_ELEMENTS = (None,) * MAX_NESTED
"""The slots of a new frame."""


class Unsupported(Exception):
    """The expression has a construct that isn't compiled."""


@record
class Scope:
    """The variables at one place of an expression. `is_framed`: closures take a frame. `slots`: macro variable -> its slot."""

    is_framed: bool = False
    slots: Mapping[str, int] = field(default_factory=dict)
    depth: int = 0

    def inside(self, variable: str) -> Scope:
        """The scope within a macro that binds `variable`."""
        return replace(self, slots={**self.slots, variable: self.next_slot}, depth=self.depth + 1)

    @property
    def next_slot(self) -> int:
        """The slot for the element of a macro at this place."""
        return FIRST_SLOT + self.depth

    def place_of(self, variable: str) -> int | None:
        """The slot of a variable in the frame; None for a name that is no variable."""
        slot = self.slots.get(variable)
        if slot is not None:
            return slot
        return {"event": EVENT, "async": ASYNC}.get(variable)


PLAIN = Scope()
