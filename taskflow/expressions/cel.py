"""CEL expressions over events. Rules S2.2, S3.3 and S7.

cel-python parses them, and is the reference for what they mean. Most expressions are compiled to closures that give the same
values in a hundredth of the time. Four things follow the CEL standard, or the nature of JSON, more closely than cel-python does:
values of different types are unequal, not an error (so `event.data.coupon != null` works); a missing field equals nothing but
the literal null (so `event.data.archived != true` holds without it); numbers compare and calculate as numbers (so
`event.data.total > 99.5` holds for the total 100); arithmetic takes numbers, text and lists, but no bools.
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
    """A CEL expression that was checked. `is_compiled`: it is evaluated without cel-python.

    It takes wire objects: JSON as orjson gives it. A returned value may be a part of them, so don't change it.
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
        """The value that cel-python gives. Raises whatever cel-python raises."""
        return self._reference(event, async_event)

    def evaluate(self, event: EventFields, async_event: EventFields | None = None) -> Any:
        """The value for `event` and `async` in plain Python types.

        Raises ExpressionError where CEL gives an error, as for a missing field.
        """
        try:
            return self._run(event, async_event or NO_EVENT)
        except (
            Exception
        ) as error:  # events are foreign data, and celpy lets Python errors through that they cause
            reason = error.args[0] if error.args else type(error).__name__
            raise ExpressionError(f"CEL expression {self.source!r:.200}: {reason!s:.200}") from error

    def holds(self, event: EventFields, async_event: EventFields | None = None) -> bool:
        """Whether a condition holds: its value is true.

        Raises ExpressionError where CEL gives an error, and for a value that is no bool.

            compile_expression("event.data.total > 100", what="it").holds({"data": {"total": 120}})  # True
        """
        value = self.evaluate(event, async_event)
        if value is True or value is False:
            return bool(value)
        raise ExpressionError(
            f"CEL expression {self.source!r:.200}: its value, {value!r:.100}, is neither true nor false"
        )

    def matches(self, event: EventFields, async_event: EventFields | None = None) -> bool:
        """As `holds`; an error and a value that is no bool are false."""
        try:
            return self._run(event, async_event or NO_EVENT) is True
        except Exception:
            return False

    def value(self, event: EventFields, async_event: EventFields | None = None) -> Json:
        """The value as a key; "" for an event that has no key, which is logged the first time. See `key_of`. Rule S7.

        compile_expression("event.data.customer", what="it").value({"data": {}})  # ""
        """
        value, reason = self.key_of(event, async_event)
        if reason and not self._has_warned:
            self._has_warned = True
            logger.warning('%s; such events share the key "", and no more is said of them', reason)
        return value

    def key_of(self, event: EventFields, async_event: EventFields | None = None) -> tuple[Json, str]:
        """The value as a key, and the reason why the event has no key (the value is "" then), or "".

        A missing field, any other error, null, and a value that is no JSON (a timestamp) give no key. Rule S7.
        """
        try:
            value: Json = self.evaluate(event, async_event)
        except ExpressionError as error:
            return "", str(error)
        if value is None:
            return "", f"CEL expression {self.source!r:.200}: its value is null"
        if not is_json(value):
            return "", f"CEL expression {self.source!r:.200}: its value, {value!r:.100}, is no JSON"
        return value, ""

    def _run(self, event: EventFields, async_event: EventFields) -> Any:
        if self._compiled is not None:
            try:
                return self._compiled(event, async_event)
            except Unsure:
                pass
        return self.by_reference(event, async_event)


def is_json(value: Any) -> bool:
    """Whether a value of CEL is JSON: not a time, bytes, a type, or a map with keys that are no text."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_json(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(is_json, value))
    return value is None or isinstance(value, (bool, int, float, str))


def compile_key(source: str, *, what: str) -> Expression:
    """As `compile_expression` over `event`, for a key. Raises ConfigError also for an expression that can't give a key. Rule S7."""
    from taskflow.expressions.keys import check_key

    expression = compile_expression(source, what=what)
    try:
        check_key(source)
    except Problem as problem:
        raise refusal(what, "no key", problem, source) from None
    return expression


def refusal(what: str, is_what: str, problem: Problem, source: str) -> ConfigError:
    return ConfigError(
        f"{what} is {is_what} (line {problem.line}, column {problem.column}): {problem}. The expression is {source!r:.300}"
    )


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
        raise refusal(what, "no valid CEL", problem, source) from None


@lru_cache(maxsize=1024)
def compile_cached(source: str, variables: tuple[str, ...]) -> Expression:
    # celpy takes 80 ms to import, which only apps with expressions pay.
    from taskflow.expressions.compiler import compile_tree
    from taskflow.expressions.reference import compile_program

    program = compile_program(source, variables)
    return Expression(source, compiled=compile_tree(program.tree), reference=program.run)
