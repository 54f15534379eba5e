"""dump and load: the one pair that every value passes which is stored, or read back. Rules S2.6, S11.3.

Outcomes of steps and runs, data of events and signals, edits of a rerun. Whatever is to happen to all of them belongs here.
"""

from __future__ import annotations

from typing import Any

from taskflow.errors import SerializationError
from taskflow.values.json import from_json, to_json
from taskflow.values.shape import ANY, Mismatch, Shape


def dump(value: object, shape: Shape = ANY, *, what: str) -> bytes:
    """`value` as JSON in UTF-8. Raises SerializationError, which names `what`, the path and the types."""
    if shape.dump is not None:
        try:
            value = shape.dump(value)
        except Mismatch as error:
            raise SerializationError(f"{what} is no {shape.name}: {error.where()} {error}") from error
    return to_json(value, what=what)


def load(data: bytes | str, shape: Shape = ANY, *, what: str) -> Any:
    """The value that `dump` stored, of the type that the shape is for.

    Raises SerializationError, which names `what`, the path and the types, when it does not fit: another type was stored.
    """
    value = from_json(data)
    if shape.load is None:
        return value
    try:
        return shape.load(value)
    except Mismatch as error:
        raise SerializationError(f"{what} is no {shape.name}: {error.where()} {error}") from error
