"""CEL expressions over events. Rules S2.2, S3.3 and S7.

cel-python parses them and is the reference for what they mean; what most of them consist of is compiled to closures that
give the same and take a hundredth of the time. Three things follow the CEL standard, or the nature of JSON, more closely
than cel-python does: values of different types are unequal instead of an error (so `event.data.coupon != null` works),
numbers compare and calculate as numbers (so `event.data.total > 99.5` holds for the total 100), and arithmetic takes numbers,
text and lists only, never bools.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

from taskflow.errors import ConfigError, ExpressionError
from taskflow.expressions.operators import Unsure
from taskflow.expressions.problem import Problem
from taskflow.types import EventFields, Json

logger = logging.getLogger("taskflow.expressions")

MAX_CHARS = 4_096
NO_EVENT: EventFields = {}

Evaluate: TypeAlias = Callable[[EventFields, EventFields], Any]
"""Takes the values of `event` and `async`."""


class Expression:
    """A CEL expression that was checked. `is_compiled` says whether it needs no cel-python to evaluate.

    It takes wire objects: JSON as orjson gives it. What it returns may be a part of them, so don't change it.
    """

    __slots__ = ("_compiled", "_has_warned", "_reference", "source")

    def __init__(self, source: str, *, compiled: Evaluate | None, reference: Evaluate) -> None:
        self.source = source
        self._compiled = compiled
        self._reference = reference
        self._has_warned = False

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    @property
    def is_compiled(self) -> bool:
        return self._compiled is not None

    def by_reference(self, event: EventFields, async_event: EventFields) -> Any:
        """What cel-python makes of it. Raises whatever cel-python raises."""
        return self._reference(event, async_event)

    def evaluate(self, event: EventFields, async_event: EventFields | None = None) -> Any:
        """The value for `event` and `async` in plain Python types.

        Raises ExpressionError where CEL gives an error, as for a missing field.
        """
        try:
            return self._run(event, async_event or NO_EVENT)
        except (
            Exception
        ) as error:  # events are foreign data, and celpy lets through what they make Python raise
            reason = error.args[0] if error.args else type(error).__name__
            raise ExpressionError(f"CEL expression {self.source!r:.200}: {reason!s:.200}") from error

    def matches(self, event: EventFields, async_event: EventFields | None = None) -> bool:
        """Whether the value is true. An error, a missing field, and a value that is no bool are false.

        compile_expression("event.data.total > 100", what="it").matches({"data": {"total": 120}})  # True
        """
        try:
            return self._run(event, async_event or NO_EVENT) is True
        except Exception:
            return False

    def value(self, event: EventFields, async_event: EventFields | None = None) -> Json:
        """The value as a key. A missing field, any other error, null, and what is no JSON (a timestamp) give "".

        The first time that an expression gives "" so, a warning says why. Rule S7.

            compile_expression("event.data.customer", what="it").value({"data": {}})  # ""
        """
        try:
            value: Json = self.evaluate(event, async_event)
        except ExpressionError as error:
            return self._no_key(str(error))
        if value is None:
            return self._no_key(f"CEL expression {self.source!r:.200}: its value is null")
        if not is_json(value):
            return self._no_key(f"CEL expression {self.source!r:.200}: its value, {value!r:.100}, is no JSON")
        return value

    def _run(self, event: EventFields, async_event: EventFields) -> Any:
        if self._compiled is not None:
            try:
                return self._compiled(event, async_event)
            except Unsure:
                pass
        return self.by_reference(event, async_event)

    def _no_key(self, reason: str) -> str:
        if not self._has_warned:
            self._has_warned = True
            logger.warning('%s; such events have the key "", and no more is said of them', reason)
        return ""


def is_json(value: Any) -> bool:
    """Whether a value of CEL is JSON: no time, bytes, type, or map with other keys than text."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_json(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(is_json, value))
    return value is None or isinstance(value, (bool, int, float, str))


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
    from taskflow.expressions.compiler import compile_tree
    from taskflow.expressions.reference import compile_program

    program = compile_program(source, variables)
    return Expression(source, compiled=compile_tree(program.tree), reference=program.run)
