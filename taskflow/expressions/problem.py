"""Problem: why an expression is refused, and where in its text."""

from __future__ import annotations


class Problem(Exception):
    """An expression is refused; the message says why. `line` and `column` are 1-based."""

    def __init__(self, reason: str, line: int, column: int) -> None:
        super().__init__(reason)
        self.line = line
        self.column = column
