"""Budget: how much work one evaluation may be, in steps that are counted and not timed, so that the answer never depends on load.

Who writes an expression is trusted to mean well, and who sends an event is not: a list in it may have 100,000 elements, and a
macro inside a macro looks at each pair of them. So macros, and what works through a text, list or map inside them, are charged.
"""

from __future__ import annotations

from typing import Any

# A step is about a node of the expression that is evaluated, or an element that is looked at: 0.1 to 0.3 us, so 0.3 s at worst.
MAX_STEPS = 1_000_000
# Of a text that `+` makes, and of a list that it makes, in elements.
MAX_BUILT = 100_000
CHARS_A_STEP = 16


class Exhausted(Exception):
    """The evaluation is too much work. No error of CEL: neither `||` nor has() absorbs it."""


class Budget:
    """The steps that are left to one evaluation."""

    __slots__ = ("left", "steps")

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self.steps = steps
        self.left = steps

    def charge(self, steps: int) -> None:
        """Raises Exhausted when no more steps are left."""
        self.left -= steps
        if self.left < 0:
            raise Exhausted(
                f"it takes more than {self.steps:,} steps for this event; read fewer or shorter lists"
            )

    def weigh(self, value: Any) -> None:
        """Charge what it takes to work through `value`: each element, however deep, and each piece of text.

        A loop, as what it guards against is depth; a list that stands in a value twice is worked through twice.
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
    """Raises ValueError, an error of CEL, when the sum of two texts or lists is too long."""
    if len(left) + len(right) > MAX_BUILT:
        unit = "characters" if isinstance(left, str) else "elements"
        raise ValueError(f"the sum has more than {MAX_BUILT:,} {unit}")
