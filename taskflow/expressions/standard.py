"""Our operators and functions for cel-python, and the conversion between its values and plain ones.

cel-python's own operators differ from the standard (see `cel`), and some take time or memory out of all proportion: an error of
`||` quotes both sides, which may be errors that quote both of their sides.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from celpy.celtypes import (
    BoolType,
    DoubleType,
    DurationType,
    IntType,
    ListType,
    MapType,
    StringType,
    TimestampType,
    UintType,
)
from celpy.evaluation import CELEvalError

from taskflow.expressions import operators
from taskflow.expressions.budget import CHARS_A_STEP, Budget, Exhausted, check_built
from taskflow.expressions.functions import matches
from taskflow.expressions.tree import MAX_INT, MIN_INT

BUDGET: ContextVar[Budget] = ContextVar("budget")
"""The budget of the evaluation under way. A context variable, since cel-python calls the functions here without it."""

STEPS_A_VALUE = 4  # converting one value takes about as long as so many steps of compiled closures
MAX_TIME_CHARS = 100  # the longest text of a timestamp or duration


def to_cel(value: Any) -> Any:
    """A JSON value in celpy's types."""
    if value is None:
        return None
    if isinstance(value, bool):
        return BoolType(value)
    if isinstance(value, str):
        return StringType(value)
    if isinstance(value, int):
        if MIN_INT <= value <= MAX_INT:
            return IntType(value)
        return UintType(value)
    if isinstance(value, float):
        return DoubleType(value)
    if isinstance(value, dict):
        return MapType({StringType(key): to_cel(item) for key, item in value.items()})
    return ListType([to_cel(item) for item in value])


def to_plain(value: Any) -> Any:
    """A value of celpy as None, bool, int, float, str, bytes, datetime, timedelta, list or dict."""
    if isinstance(value, BoolType):
        return bool(value)
    if value is None or isinstance(value, (bool, type)):
        return value
    BUDGET.get().charge(STEPS_A_VALUE)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        BUDGET.get().weigh(value)
        return str(value)
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, datetime):
        return datetime.combine(value.date(), value.timetz()).astimezone(UTC)
    if isinstance(value, timedelta):
        return timedelta(days=value.days, seconds=value.seconds, microseconds=value.microseconds)
    if isinstance(value, Mapping):
        return {to_plain(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    raise TypeError(f"a value of type {type(value).__name__} is no result")


def relation(decide: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    """A relation for celpy, made from one over plain values. Errors are values in celpy, and are passed through."""

    def relate(left: Any, right: Any) -> Any:
        for operand in (left, right):
            if isinstance(operand, CELEvalError):
                return operand
        try:
            return BoolType(decide(to_plain(left), to_plain(right)))
        except Exhausted:
            raise
        except Exception as error:  # celpy turns only a TypeError into a CEL error
            raise TypeError(str(error)) from error

    return relate


PLAIN_RESULTS: MappingProxyType[type, Callable[[Any], Any]] = MappingProxyType(
    {float: DoubleType, str: StringType, list: ListType}
)
"""Plain type -> celpy's type: celpy's own operators give plain values, which its functions can't take."""


def arithmetic(calculate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """An operator for celpy: takes an integer and a double as two doubles, refuses bools, returns a value of celpy's types."""

    def compute(left: Any, right: Any) -> Any:
        for operand in (left, right):
            if isinstance(operand, CELEvalError):
                return operand
            if isinstance(operand, BoolType):
                raise TypeError("there is no arithmetic with bools")
        if isinstance(left, float) or isinstance(right, float):
            if not (is_number(left) and is_number(right)):
                raise TypeError(f"no arithmetic with {type(left).__name__} and {type(right).__name__}")
            left, right = DoubleType(float(left)), DoubleType(float(right))
        if isinstance(left, (str, bytes, list)) and isinstance(right, (str, bytes, list)):
            BUDGET.get().charge(1 + (len(left) + len(right)) // CHARS_A_STEP)
            check_built(left, right)
        value = calculate(left, right)
        kind = PLAIN_RESULTS.get(type(value))
        return value if kind is None else kind(value)

    return compute


def logical(*, deciding: bool) -> Callable[[Any, Any], Any]:
    """`||` and `&&` as in cel-python, but with an error that quotes neither side."""

    def join(left: Any, right: Any) -> Any:
        for one, other in ((left, right), (right, left)):
            if isinstance(one, BoolType):
                return one if bool(one) is deciding else other
        if isinstance(left, CELEvalError):
            return left
        if isinstance(right, CELEvalError):
            return right
        raise TypeError("neither side is a bool")

    return join


def has_matches(text: Any, pattern: Any) -> BoolType:
    return BoolType(matches(to_plain(text), to_plain(pattern)))


def short(kind: Callable[..., Any]) -> Callable[..., Any]:
    """A conversion that refuses long text, since cel-python's patterns for it may take very long."""

    def convert(value: Any, *more: Any) -> Any:
        if isinstance(value, str) and len(value) > MAX_TIME_CHARS:
            raise ValueError(f"a time has at most {MAX_TIME_CHARS} characters, got {len(value)}")
        return kind(value, *more)

    return convert


def remainder(left: Any, right: Any) -> Any:
    """`%` of two integers. Python's own `%` would also format text."""
    for operand in (left, right):
        if isinstance(operand, CELEvalError):
            return operand
        if not isinstance(operand, (IntType, UintType)):
            raise TypeError(f"'%' takes two integers, got {type(operand).__name__}")
    return operator.mod(left, right)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, (bool, BoolType))


STANDARD: MappingProxyType[str, Callable[..., Any]] = MappingProxyType(
    {
        "_==_": relation(operators.is_same),
        "_!=_": relation(operators.is_different),
        "_<_": relation(operators.ordering(operator.lt)),
        "_<=_": relation(operators.ordering(operator.le)),
        "_>_": relation(operators.ordering(operator.gt)),
        "_>=_": relation(operators.ordering(operator.ge)),
        "_in_": relation(operators.is_in),
        "_+_": arithmetic(operator.add),
        "_-_": arithmetic(operator.sub),
        "_*_": arithmetic(operator.mul),
        "_/_": arithmetic(operator.truediv),
        "_%_": remainder,
        "_&&_": logical(deciding=False),
        "_||_": logical(deciding=True),
        "matches": has_matches,
        "timestamp": short(TimestampType),
        "duration": short(DurationType),
    }
)
