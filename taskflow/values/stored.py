"""`dump` and `load`: every value that is stored, or read back, passes through them. Rules S2.6, S11.3.

They see the outcomes of steps and runs, the data of events and signals, and the edits of a rerun. A change that concerns all of
these values belongs here.
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
    """The value that `dump` stored, in the type of the shape.

    Raises SerializationError, which names `what`, the path and the types, when the value does not fit: another type was stored.
    """
    value = from_json(data)
    if shape.load is None:
        return value
    try:
        return shape.load(value)
    except Mismatch as error:
        raise SerializationError(f"{what} is no {shape.name}: {error.where()} {error}") from error
