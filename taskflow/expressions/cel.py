"""CEL expressions over events. Rules S2.2, S3.3 and S7.

Two things follow the CEL standard, or the nature of JSON, more closely than cel-python does: values of
different types are unequal instead of an error (so `event.data.coupon != null` works), and numbers compare
and calculate as numbers (so `event.data.total > 99.5` holds for the total 100).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from taskflow.errors import ConfigError, TaskFlowError
from taskflow.types import JsonObject

if TYPE_CHECKING:
    from taskflow.expressions.reference import Program

MAX_CHARS = 4_096


class ExpressionError(TaskFlowError):
    """An expression has no value for this event: a field is missing, or the types don't fit."""


class Problem(Exception):
    """Why a source is refused; `line` and `column` are 1-based."""

    def __init__(self, reason: str, line: int, column: int) -> None:
        super().__init__(reason)
        self.line = line
        self.column = column


class Expression:
    """A CEL expression that was checked."""

    __slots__ = ("_program", "source")

    def __init__(self, source: str, program: Program) -> None:
        self.source = source
        self._program = program

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    def evaluate(self, event: JsonObject, async_event: JsonObject | None = None) -> Any:
        """The value for `event` and `async`, wire objects both, in plain Python types.

        Raises ExpressionError where CEL gives an error, as for a missing field.
        """
        try:
            return self._program.run({"event": event, "async": async_event or {}})
        except (
            Exception
        ) as error:  # events are foreign data, and celpy lets through what they make Python raise
            reason = error.args[0] if error.args else type(error).__name__
            raise ExpressionError(f"CEL expression {self.source!r:.200}: {reason!s:.200}") from error

    def matches(self, event: JsonObject, async_event: JsonObject | None = None) -> bool:
        """Whether the value is true. An error, a missing field, and a value that is no bool are false."""
        try:
            return self.evaluate(event, async_event) is True
        except ExpressionError:
            return False


def compile_expression(source: str, *, what: str, variables: tuple[str, ...] = ("event",)) -> Expression:
    """Parse and check a CEL expression over `variables`: "event", or "event" and "async".

    Raises ConfigError, which names `what` and gives line and column, for a syntax error, or an unknown
    variable, field of an event, or function. Rule S2.5.
    """
    if not isinstance(source, str) or not 1 <= len(source) <= MAX_CHARS:
        got = f"{len(source)} characters" if isinstance(source, str) else type(source).__name__
        raise ConfigError(f"{what} must be a CEL expression of 1 to {MAX_CHARS} characters, got {got}")
    try:
        return compile_cached(source, variables)
    except Problem as problem:
        raise ConfigError(
            f"{what} is no valid CEL (line {problem.line}, column {problem.column}): {problem}. "
            f"The expression is {source!r:.300}"
        ) from None


@lru_cache(maxsize=1024)
def compile_cached(source: str, variables: tuple[str, ...]) -> Expression:
    # celpy takes 80 ms to import; only who uses an expression pays for it.
    from taskflow.expressions.reference import compile_program

    return Expression(source, compile_program(source, variables))
