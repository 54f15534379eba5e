"""CEL's macros as closures over a frame: they look at each element of a list, or at each key of a map.

`all` and `exists` are `&&` and `||` over the elements, with the same rules for errors and for values that are no bools.
`filter` and `exists_one` take bools only, while cel-python takes any value as Python's truth.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, Protocol

from taskflow.expressions import operators
from taskflow.expressions.operators import ERRORS
from taskflow.expressions.scope import BUDGET, Closure, Frame


class Macro(Protocol):
    def __call__(self, owner: Closure, body: Closure, slot: int, cost: int) -> Closure: ...


def elements(value: Any, name: str) -> Iterable[Any]:
    if isinstance(value, (list, dict)):
        return value
    raise TypeError(f"{name}() takes a list or a map, got {type(value).__name__}")


def judge(value: Any, name: str) -> bool:
    if value is True or value is False:
        return bool(value)
    raise TypeError(f"{name}() takes a condition, got {type(value).__name__}")


def all_macro(owner: Closure, body: Closure, slot: int, cost: int) -> Closure:
    return quantifier("all", owner, body, slot, cost, deciding=False)


def exists_macro(owner: Closure, body: Closure, slot: int, cost: int) -> Closure:
    return quantifier("exists", owner, body, slot, cost, deciding=True)


def quantifier(name: str, owner: Closure, body: Closure, slot: int, cost: int, *, deciding: bool) -> Closure:
    """`all` or `exists`: one `deciding` element decides, even if others are errors; without one, the error of an element counts."""
    neutral = not deciding

    def decide(frame: Frame, _: Any) -> Any:
        outcome: Any = neutral
        error: Exception | None = None
        charge = frame[BUDGET].charge
        for item in elements(owner(frame, _), name):
            charge(cost)
            frame[slot] = item
            try:
                value = body(frame, _)
            except ERRORS as caught:
                error = caught
                continue
            if value is deciding:
                return deciding
            if value is neutral:
                continue
            # A value that is no bool is the outcome if it is the only one, as with `&&` and `||`; a second one is an error.
            if outcome is not neutral:
                error = error or operators.refusal("condition", outcome, value)
            outcome = value
        if error is not None:
            raise error
        return outcome

    return decide


def exists_one_macro(owner: Closure, body: Closure, slot: int, cost: int) -> Closure:
    def decide(frame: Frame, _: Any) -> bool:
        found = 0
        charge = frame[BUDGET].charge
        for item in elements(owner(frame, _), "exists_one"):
            charge(cost)
            frame[slot] = item
            found += judge(body(frame, _), "exists_one")
        return found == 1

    return decide


def filter_macro(owner: Closure, body: Closure, slot: int, cost: int) -> Closure:
    def select(frame: Frame, _: Any) -> list[Any]:
        found = []
        charge = frame[BUDGET].charge
        for item in elements(owner(frame, _), "filter"):
            charge(cost)
            frame[slot] = item
            if judge(body(frame, _), "filter"):
                found.append(item)
        return found

    return select


def map_macro(owner: Closure, body: Closure, slot: int, cost: int) -> Closure:
    def transform(frame: Frame, _: Any) -> list[Any]:
        made = []
        charge = frame[BUDGET].charge
        for item in elements(owner(frame, _), "map"):
            charge(cost)
            frame[slot] = item
            made.append(body(frame, _))
        return made

    return transform


MACROS: MappingProxyType[str, Macro] = MappingProxyType(
    {
        "all": all_macro,
        "exists": exists_macro,
        "exists_one": exists_one_macro,
        "filter": filter_macro,
        "map": map_macro,
    }
)
"""Macro -> what makes its closure of: the list or map, the body, the slot of the element in the frame, the cost of an element."""
