"""What CEL's operators do with plain values, as JSON gives them.

They raise one of `ERRORS` where CEL has an error, and `Unsure` for the few values that
only cel-python knows how to treat.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from taskflow.expressions.budget import check_built
from taskflow.expressions.tree import MAX_INT, MIN_INT

ERRORS = (LookupError, TypeError, ValueError, ArithmeticError)
"""What stands for an error of CEL, which `&&`, `||`, has() and the macros may absorb."""

MISSING = object()
"""What a path gives for a field that is not there, as an operand of `==`, `!=` and `in`. It equals nothing but the literal null."""

NUMBERS = frozenset((int, float))
ORDERED = frozenset((bool, str, bytes, datetime, timedelta))


class Unsure(Exception):
    """Only the reference knows the value: an unsigned integer of 64 bits, or a construct that it treats in a way of its own."""


def is_same(left: Any, right: Any) -> bool:
    """Equality: numbers by value, other types never equal one another, and a missing field equals nothing."""
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
    """Membership in a list, or among the keys of a map. A missing field is in nothing, and nothing is in it."""
    if item is MISSING or container is MISSING:
        return False
    if not isinstance(container, (list, dict)):
        raise TypeError(f"'in' takes a list or a map, got {type(container).__name__}")
    return any(is_same(item, member) for member in container)


def ordering(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """`compare` for two numbers, or two values of one type that has an order."""

    def decide(left: Any, right: Any) -> bool:
        kind, other = type(left), type(right)
        if (kind in NUMBERS and other in NUMBERS) or (kind is other and kind in ORDERED):
            return compare(left, right)
        raise refusal("an order", left, right)

    return decide


def refusal(what: str, left: Any, right: Any) -> TypeError:
    return TypeError(f"there is no {what} of {type(left).__name__} and {type(right).__name__}")


def whole(value: int) -> int:
    """`value`, if it fits 64 bits."""
    if MIN_INT <= value <= MAX_INT:
        return value
    raise ValueError("the integer overflows 64 bits")


def check_signed(left: int, right: int) -> None:
    """Integers above `MAX_INT` are unsigned, and so is all that is made of them."""
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
    """Integers are cut towards zero. A double divided by zero is +infinity, whatever the signs, as in cel-python."""
    kind, other = type(left), type(right)
    if kind is int and other is int:
        check_signed(left, right)
        quotient: int = abs(left) // abs(right)
        return whole(quotient if (left < 0) is (right < 0) else -quotient)
    if kind in NUMBERS and other in NUMBERS:
        return float(left) / float(right) if right else float("inf")
    raise refusal("quotient", left, right)


def modulo(left: Any, right: Any) -> int:
    """The remainder has the sign of `left`."""
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
    """The field of a map, or the item of a list; a list counts backwards from -1."""
    kind = type(container)
    if (kind is dict and type(key) is str) or (kind is list and isinstance(key, int)):
        return container[key]
    if kind is str:
        raise Unsure
    raise refusal("item", container, key)
