"""`dump` and `load`: every value that is stored, or read back, passes through them. Rules S2.6, S11.3, S12.1.

They see the outcomes of steps and runs, the data of signals, the input of steps and the edits of a rerun. A change that concerns
all of these values is a codec.
"""

from __future__ import annotations

from typing import Any, Protocol

from taskflow.errors import SerializationError
from taskflow.values.json import from_json, to_json
from taskflow.values.shape import ANY, Mismatch, Shape

# How the envelopes begin that stand in place of values which a codec has changed (`codecs.envelope`).
BLOB_BEGINNING = b'{"__BLOB__":'
BEGINNINGS = (b'{"__ENCRYPTED__":', b'{"__COMPRESSED__":', BLOB_BEGINNING)
TEXT_BEGINNINGS = tuple(each.decode() for each in BEGINNINGS)


def begins_envelope(text: bytes | str) -> bool:
    """Whether a JSON text of the store begins like an envelope; `read_envelope` says whether it is one."""
    return text.startswith(BEGINNINGS) if isinstance(text, bytes) else text.startswith(TEXT_BEGINNINGS)


def begins_reference(text: bytes | str) -> bool:
    """Whether a JSON text of the store begins like the reference to a blob."""
    return (
        text.startswith(BLOB_BEGINNING) if isinstance(text, bytes) else text.startswith(TEXT_BEGINNINGS[-1])
    )


class Codec(Protocol):
    """What happens between JSON and the store (`codecs.Codecs`)."""

    def encode(self, text: bytes, /) -> bytes:
        """What is stored of a value, which is given as JSON."""
        ...

    def decode(self, stored: bytes | str, /) -> bytes | str:
        """The JSON of a stored value. Raises DecodeError."""
        ...


def dump(value: object, shape: Shape = ANY, codec: Codec | None = None, *, what: str) -> bytes:
    """`value` as JSON in UTF-8, as the codec has it. Raises SerializationError, which names `what`, the path and the types."""
    if shape.dump is not None:
        try:
            value = shape.dump(value)
        except Mismatch as error:
            raise SerializationError(f"{what} is no {shape.name}: {error.where()} {error}") from error
    text = to_json(value, what=what)
    return text if codec is None else codec.encode(text)


def load(data: bytes | str, shape: Shape = ANY, codec: Codec | None = None, *, what: str) -> Any:
    """The value that `dump` stored, in the type of the shape.

    Raises SerializationError, which names `what`, the path and the types, when the value does not fit: another type was stored;
    and DecodeError.
    """
    value = from_json(data if codec is None else codec.decode(data))
    if shape.load is None:
        return value
    try:
        return shape.load(value)
    except Mismatch as error:
        raise SerializationError(f"{what} is no {shape.name}: {error.where()} {error}") from error
