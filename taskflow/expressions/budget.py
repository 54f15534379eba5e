"""Budget: how much work one evaluation may take. Steps are counted, not timed, so that the result never depends on the load.

The author of an expression is trusted, but the sender of an event is not: a list in it may have 100,000 elements, and a macro
inside a macro looks at each pair of them. So macros are charged, and the functions and operators in them that read a text, list or
map.
"""

from __future__ import annotations

from typing import Any

# A step evaluates about one node of the expression, or looks at one element: 0.1 to 0.3 us, so 0.3 s at worst.
MAX_STEPS = 1_000_000
# The longest text (in characters) or list (in elements) that `+` may make.
MAX_BUILT = 100_000
CHARS_A_STEP = 16


class Exhausted(Exception):
    """The evaluation takes too much work. This is no CEL error: neither `||` nor has() absorbs it."""


class Budget:
    """The steps that are left to one evaluation."""

    __slots__ = ("left", "steps")

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self.steps = steps
        self.left = steps

    def charge(self, steps: int) -> None:
        """Use up `steps`. Raises Exhausted when no more are left."""
        self.left -= steps
        if self.left < 0:
            raise Exhausted(
                f"it takes more than {self.steps:,} steps for this event; read fewer or shorter lists"
            )

    def weigh(self, value: Any) -> None:
        """Charge the steps that reading all of `value` takes: for each element, however deep, and for each piece of text.

        It is a loop and not recursive, since values may be deep. A list that a value contains twice is charged twice.
        """
        if isinstance(value, str):
            self.charge(1 + len(value) // CHARS_A_STEP)
        elif isinstance(value, (list, dict)):
            pending = [value]
            while pending:
                one = pending.pop()
                self.charge(1 + len(one))
                for item in one.values() if isinstance(one, dict) else one:
                    if isinstance(item, (list, dict)):
                        pending.append(item)
                    elif isinstance(item, str):
                        self.charge(len(item) // CHARS_A_STEP)


def check_built(left: Any, right: Any) -> None:
    """Raise ValueError, which counts as a CEL error, when the sum of two texts or lists would be too long."""
    if len(left) + len(right) > MAX_BUILT:
        unit = "characters" if isinstance(left, str) else "elements"
        raise ValueError(f"the sum has more than {MAX_BUILT:,} {unit}")
