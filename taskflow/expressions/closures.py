"""The closures that a compiled expression is made of: each reads a value, or compares or joins the values of other closures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from taskflow.expressions import operators
from taskflow.expressions.budget import Budget
from taskflow.expressions.functions import finder, refused
from taskflow.expressions.operators import ERRORS, MISSING, NUMBERS
from taskflow.expressions.scope import ASYNC, BUDGET, Closure, Frame, Scope, Unsupported
from taskflow.types import EventFields


def binary(function: Callable[[Any, Any], Any], left: Closure, right: Closure) -> Closure:
    """A closure that applies `function`, which takes the same time for all values; for others there is `weighed`."""
    return lambda event, async_: function(left(event, async_), right(event, async_))


def weighed(function: Callable[[Any, Any], Any], left: Closure, right: Closure, scope: Scope) -> Closure:
    """A closure that applies `function`, whose time grows with its values: in an expression with macros they are charged first."""
    if not scope.is_framed:
        return binary(function, left, right)

    def work(frame: Frame, _: Any) -> Any:
        one, other = left(frame, _), right(frame, _)
        budget: Budget = frame[BUDGET]
        budget.weigh(one)
        budget.weigh(other)
        return function(one, other)

    return work


def weighing(read: Closure, scope: Scope) -> Closure:
    """A closure that gives the value of `read`, after charging the budget for it; see `weighed`."""
    if not scope.is_framed:
        return read

    def weigh(frame: Frame, _: Any) -> Any:
        value = read(frame, _)
        frame[BUDGET].weigh(value)
        return value

    return weigh


def read_path(names: Sequence[str], scope: Scope, *, otherwise: Any = None) -> Closure:
    """A closure that reads the value at a path. A missing field is an error, or is `otherwise` if that is not None."""
    variable, *keys = names
    place = scope.place_of(variable)
    if place is None:
        raise Unsupported
    missing = f"there is no {'.'.join(names)}"
    if scope.is_framed:

        def read_frame(frame: Frame, _: Any) -> Any:
            value = frame[place]
            try:
                for key in keys:
                    value = value[key]
            except (KeyError, TypeError):
                if otherwise is None:
                    raise LookupError(missing) from None
                return otherwise
            return value

        return read_frame
    if place == ASYNC:

        def read_async(event: EventFields, async_: EventFields) -> Any:
            value: Any = async_
            try:
                for key in keys:
                    value = value[key]
            except (KeyError, TypeError):
                if otherwise is None:
                    raise LookupError(missing) from None
                return otherwise
            return value

        return read_async

    def read_event(event: EventFields, async_: EventFields) -> Any:
        value: Any = event
        try:
            for key in keys:
                value = value[key]
        except (KeyError, TypeError):
            if otherwise is None:
                raise LookupError(missing) from None
            return otherwise
        return value

    return read_event


def equals(read: Closure, value: Any, *, wanted: bool) -> Closure:
    """A closure that tells whether the value of `read` equals a literal (`wanted`), or does not (not `wanted`)."""
    if value is None:

        def is_null(event: EventFields, async_: EventFields) -> bool:
            got = read(event, async_)
            return (got is None or got is MISSING) is wanted

        return is_null
    if isinstance(value, bool):
        return lambda event, async_: (read(event, async_) is value) is wanted
    if isinstance(value, str):
        return lambda event, async_: (read(event, async_) == value) is wanted

    def is_number(event: EventFields, async_: EventFields) -> bool:
        got = read(event, async_)
        return (got == value and type(got) is not bool) is wanted

    return is_number


def is_ordered(read: Closure, compare: Callable[[Any, Any], bool], value: Any) -> Closure:
    """A closure that tells whether `compare` holds for the value of `read` and a literal."""
    if value is None:
        return binary(operators.ordering(compare), read, lambda event, async_: None)
    kinds = NUMBERS if type(value) in NUMBERS else frozenset((type(value),))

    def decide(event: EventFields, async_: EventFields) -> bool:
        got = read(event, async_)
        if type(got) in kinds:
            return compare(got, value)
        raise operators.refusal("order", got, value)

    return decide


def logical(left: Closure, right: Closure, *, deciding: bool) -> Closure:
    """`||` or `&&`: a true on either side decides `||`, a false decides `&&`, even if the other side is an error."""
    neutral = not deciding

    def decide(event: EventFields, async_: EventFields) -> Any:
        try:
            first = left(event, async_)
        except ERRORS:
            if right(event, async_) is deciding:
                return deciding
            raise
        if first is deciding:
            return deciding
        second = right(event, async_)
        if first is neutral:
            return second
        if second is neutral:  # then the result is `first`, even if that is no bool, as in cel-python
            return first
        if second is deciding:
            return deciding
        raise operators.refusal("'||'" if deciding else "'&&'", first, second)

    return decide


def matching(read: Closure, pattern: str) -> Closure:
    """matches() with a literal pattern, which was checked: its finder is made once here, not at each call."""
    find = finder(pattern)

    def decide(event: EventFields, async_: EventFields) -> bool:
        text = read(event, async_)
        if type(text) is str:
            return find(text) is not None
        raise refused("matches", text)

    return decide


def has(read: Closure) -> Closure:
    def decide(event: EventFields, async_: EventFields) -> bool:
        try:
            read(event, async_)
        except ERRORS:
            return False
        return True

    return decide
