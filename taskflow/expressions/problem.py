"""Problem: why an expression is refused, and where in its text."""

from __future__ import annotations


class Problem(Exception):
    """Why a source is refused; `line` and `column` are 1-based."""

    def __init__(self, reason: str, line: int, column: int) -> None:
        super().__init__(reason)
        self.line = line
        self.column = column
