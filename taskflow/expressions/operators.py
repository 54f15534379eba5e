"""CEL's operators over plain JSON values.

They raise one of `ERRORS` where CEL has an error, and `Unsure` for the few values that only cel-python can treat.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from taskflow.expressions.budget import check_built
from taskflow.expressions.tree import MAX_INT, MIN_INT

ERRORS = (LookupError, TypeError, ValueError, ArithmeticError)
"""The exceptions that stand for a CEL error, which `&&`, `||`, has() and the macros may absorb."""

MISSING = object()
"""The value of a missing field as an operand of `==`, `!=` and `in`. It equals nothing but the literal null."""

NUMBERS = frozenset((int, float))
ORDERED = frozenset((bool, str, bytes, datetime, timedelta))


class Unsure(Exception):
    """Only cel-python can tell the value: for an unsigned integer of 64 bits, or a construct that it treats in its own way."""


def is_same(left: Any, right: Any) -> bool:
    """Equality. Numbers compare by value, values of different types are unequal, and a missing field equals nothing."""
    if left is MISSING or right is MISSING:
        return False
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return left == right
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(is_same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(is_same(item, right[key]) for key, item in left.items())
    return bool(left == right)


def is_different(left: Any, right: Any) -> bool:
    return not is_same(left, right)


def is_in(item: Any, container: Any) -> bool:
    """`in`: whether a list has the item, or a map has it as a key. False if either side is a missing field."""
    if item is MISSING or container is MISSING:
        return False
    if not isinstance(container, (list, dict)):
        raise TypeError(f"'in' takes a list or a map, got {type(container).__name__}")
    return any(is_same(item, member) for member in container)


def ordering(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """A function that applies `compare` to two numbers, or to two values of one type that has an order, and refuses others."""

    def decide(left: Any, right: Any) -> bool:
        kind, other = type(left), type(right)
        if (kind in NUMBERS and other in NUMBERS) or (kind is other and kind in ORDERED):
            return compare(left, right)
        raise refusal("an order", left, right)

    return decide


def refusal(what: str, left: Any, right: Any) -> TypeError:
    return TypeError(f"there is no {what} of {type(left).__name__} and {type(right).__name__}")


def whole(value: int) -> int:
    """`value` if it fits 64 bits. Raises ValueError, a CEL error."""
    if MIN_INT <= value <= MAX_INT:
        return value
    raise ValueError("the integer overflows 64 bits")


def check_signed(left: int, right: int) -> None:
    """Raise Unsure for an integer above `MAX_INT`: it is unsigned, and so would be the result."""
    if left > MAX_INT or right > MAX_INT:
        raise Unsure


def add(left: Any, right: Any) -> Any:
    kind, other = type(left), type(right)
    if kind is int and other is int:
        check_signed(left, right)
        return whole(left + right)
    if kind in NUMBERS and other in NUMBERS:
        return float(left) + float(right)
    if kind is other and (kind is str or kind is list):
        check_built(left, right)
        return left + right
    raise refusal("sum", left, right)


def subtract(left: Any, right: Any) -> Any:
    kind, other = type(left), type(right)
    if kind is int and other is int:
        check_signed(left, right)
        return whole(left - right)
    if kind in NUMBERS and other in NUMBERS:
        return float(left) - float(right)
    raise refusal("difference", left, right)


def multiply(left: Any, right: Any) -> Any:
    kind, other = type(left), type(right)
    if kind is int and other is int:
        check_signed(left, right)
        return whole(left * right)
    if kind in NUMBERS and other in NUMBERS:
        return float(left) * float(right)
    raise refusal("product", left, right)


def divide(left: Any, right: Any) -> Any:
    """`/`: a quotient of integers is cut towards zero. A double divided by zero is +infinity for all signs, as in cel-python."""
    kind, other = type(left), type(right)
    if kind is int and other is int:
        check_signed(left, right)
        quotient: int = abs(left) // abs(right)
        return whole(quotient if (left < 0) is (right < 0) else -quotient)
    if kind in NUMBERS and other in NUMBERS:
        return float(left) / float(right) if right else float("inf")
    raise refusal("quotient", left, right)


def modulo(left: Any, right: Any) -> int:
    """`%` of two integers: the remainder has the sign of `left`."""
    if type(left) is not int or type(right) is not int:
        raise refusal("remainder", left, right)
    check_signed(left, right)
    rest: int = abs(left) % abs(right)
    return -rest if left < 0 else rest


def negate(value: Any) -> Any:
    if type(value) is float:
        return -value
    if type(value) is int and value <= MAX_INT:
        return whole(-value)
    raise TypeError(f"there is no negative of {type(value).__name__}")


def invert(value: Any) -> bool:
    if value is True:
        return False
    if value is False:
        return True
    raise TypeError(f"'!' takes a bool, got {type(value).__name__}")


def item_at(container: Any, key: Any) -> Any:
    """The field of a map, or the item of a list; negative numbers count from the end of the list."""
    kind = type(container)
    if (kind is dict and type(key) is str) or (kind is list and isinstance(key, int)):
        return container[key]
    if kind is str:
        raise Unsure
    raise refusal("item", container, key)
