"""Shape: how values of one type become JSON, and JSON becomes values of that type again. Rule S11.3."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, get_args

from taskflow.values.record import record

Convert: TypeAlias = Callable[[Any], Any]


class Mismatch(Exception):
    """A value does not fit a type. `path` leads to it, innermost part first: it is gathered on the way out."""

    def __init__(self, expected: str, got: object) -> None:
        super().__init__(f"is a {type(got).__name__} ({got!r:.60}), expected {expected}")
        self.path: list[str | int] = []

    def where(self) -> str:
        parts = (f".{part}" if isinstance(part, str) else f"[{part}]" for part in reversed(self.path))
        return "$" + "".join(parts)


@record
class Shape:
    """The two conversions of a type: `load` from plain JSON to the type, `dump` back; None where nothing has to be done."""

    name: str
    load: Convert | None = None
    dump: Convert | None = None
    # The classes of the values that `dump` takes, by which a union finds the member for a value.
    kinds: tuple[type, ...] = ()


ANY = Shape("JSON")


def items(convert: Convert | None, values: Iterable[Any]) -> list[Any]:
    """The values converted. A Mismatch gets the index of its value into its path."""
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
    """One value converted. A Mismatch gets `index` into its path."""
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
