"""A shape: what makes JSON of the values of a type, and values of JSON again. Rule S11.3."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

Convert: TypeAlias = Callable[[Any], Any]


class Mismatch(Exception):
    """A value that does not fit a type. `path` is gathered on the way out, innermost first."""

    def __init__(self, expected: str, got: object) -> None:
        super().__init__(f"is a {type(got).__name__} ({got!r:.60}), expected {expected}")
        self.path: list[str | int] = []

    def where(self) -> str:
        parts = (f".{part}" if isinstance(part, str) else f"[{part}]" for part in reversed(self.path))
        return "$" + "".join(parts)


@dataclass(frozen=True, slots=True)
class Shape:
    """`load` makes the type of plain JSON, `dump` what JSON can hold of the type; None where nothing is to be done."""

    name: str
    load: Convert | None = None
    dump: Convert | None = None
    # Of the values that `dump` is for, among the members of a union.
    kinds: tuple[type, ...] = ()


ANY = Shape("JSON")


def items(convert: Convert | None, values: Iterable[Any]) -> list[Any]:
    """Each value converted; an error knows which."""
    if convert is None:
        return list(values)
    converted = []
    for index, value in enumerate(values):
        try:
            converted.append(convert(value))
        except Mismatch as error:
            error.path.append(index)
            raise
    return converted


def items_at(index: int | str, convert: Convert | None, value: Any) -> Any:
    """One value converted; an error knows its place."""
    if convert is None:
        return value
    try:
        return convert(value)
    except Mismatch as error:
        error.path.append(index)
        raise


def name_of(hint: Any) -> str:
    return (
        hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")
    )
