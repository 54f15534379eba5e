"""JSON at the border, msgpack in the store. Rule S2.6.

orjson does the work. A value that orjson refuses, or would change silently (NaN becomes null), goes through
`plain_json`, which is slower, and either converts the value or says what is wrong and where.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any
from uuid import UUID

import msgpack
import orjson

from taskflow.errors import SerializationError

MIN_INT = -(1 << 63)
MAX_INT = (1 << 64) - 1
MAX_DEPTH = 200

# Dataclasses are left to `convert`: orjson would leave out fields whose names start with `_`, and add attributes that
# are no fields.
OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS

NEVER_NAN = frozenset((NoneType, bool, int, str, datetime, date, time, UUID, Decimal))
ALLOWED = (
    "Allowed are dict with str keys, list, tuple, str, int, float, bool, None, datetime, date, time, UUID, "
    "Decimal, Enum, dataclasses and pydantic models."
)
REMEDIES: dict[type, str] = {
    set: "turn it into a sorted list",
    frozenset: "turn it into a sorted list",
    bytes: "turn it into text, for example with base64.b64encode(...).decode()",
    bytearray: "turn it into text, for example with base64.b64encode(...).decode()",
}


class NotJson(Exception):
    """A value has no JSON form; the message says why. `path` leads to it, innermost part first: it is gathered on the way out."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.path: list[str | int] = []

    def where(self) -> str:
        parts = (f".{part}" if isinstance(part, str) else f"[{part}]" for part in reversed(self.path))
        return "$" + "".join(parts)


def to_json(value: object, *, what: str) -> bytes:
    """`value` as JSON in UTF-8. Rule S2.6.

    A tuple becomes a list; datetime, date, time, UUID and Decimal become strings, an Enum its value, a dataclass or
    pydantic model an object. Raises SerializationError, which names `what`, the type and the path, for
    anything else, and for NaN, infinity and integers beyond 64 bits.
    """
    try:
        encoded = orjson.dumps(value, convert, OPTIONS)
    except TypeError:
        return orjson.dumps(checked_json(value, what=what))
    # orjson writes NaN and infinity as null, so only a text that contains a null has to be checked.
    if b"null" in encoded and may_hold_nan(value):
        checked_json(value, what=what)
    return encoded


def from_json(data: bytes | str) -> Any:
    """The value of a JSON text. Raises SerializationError if the text is not JSON."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise SerializationError(f"expected JSON, got {len(data)} bytes that are none: {error}") from error


class Packers(threading.local):
    """The packer of each thread. `msgpack.packb` makes one for each call, with a buffer of 256 KB: 3 us, for 0.5 us of packing.

    The store's Lua does not know msgpack's `bin` type: a script that met one would fail.
    """

    def __init__(self) -> None:
        self.pack = msgpack.Packer(use_bin_type=False).pack


packers = Packers()


def pack(value: object) -> bytes:
    """`value` as msgpack, for data that only taskflow reads. Bytes in it must be UTF-8, and come back as text."""
    packed: bytes = packers.pack(value)
    return packed


def unpack(data: bytes) -> Any:
    """The value that `pack` packed."""
    return msgpack.unpackb(data, raw=False, strict_map_key=False)


def convert(value: Any) -> Any:
    """The JSON form of a type that orjson doesn't know, one level deep."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, type):
        raise TypeError
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    # pydantic is optional, so a model is recognized by its method.
    model_dump = getattr(value, "model_dump", None)
    if callable(model_dump):
        return model_dump(mode="json")
    raise TypeError


def may_hold_nan(value: object) -> bool:
    """Whether `value`, which orjson took, may hold NaN or infinity. True also for a type that this quick check does not know."""
    pending = [value]
    for item in pending:  # grows while it is walked
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, (list, tuple)):
            pending.extend(item)
        elif isinstance(item, float):
            if not math.isfinite(item):
                return True
        elif type(item) not in NEVER_NAN:
            return True
    return False


def checked_json(value: object, *, what: str) -> Any:
    """`value` in plain JSON types. Raises SerializationError."""
    try:
        return plain_json(value, 0)
    except NotJson as error:
        raise SerializationError(f"{what} has no JSON form: {error.where()} {error}") from error.__cause__


def plain_json(value: Any, depth: int) -> Any:
    """`value` in plain JSON types. Raises NotJson."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, Enum):
        return plain_json(value.value, depth + 1)
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, int):
        if MIN_INT <= value <= MAX_INT:
            return int(value)
        raise NotJson("is an int beyond 64 bits; pass it as a str")
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        raise NotJson(f"is {float(value)!r}, which JSON can't express; pass None or a str")
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if depth >= MAX_DEPTH:
        raise NotJson(f"is nested more than {MAX_DEPTH} levels deep, or contains itself")
    if isinstance(value, dict):
        return dict(plain_items(value, depth))
    if isinstance(value, (list, tuple)):
        return list(plain_list(value, depth))
    return plain_json(converted(value), depth + 1)


def plain_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise NotJson("is a str with lone surrogates, which UTF-8 can't express") from error
    return str(value)


def plain_items(value: dict[Any, Any], depth: int) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if not isinstance(key, str):
            raise NotJson(f"is a dict with a key of type {type(key).__name__}; JSON has only str keys")
        # str() of a str Enum's member would give its class and name; the key is its value.
        name = plain_text(key.value if isinstance(key, Enum) else key)
        try:
            yield name, plain_json(item, depth + 1)
        except NotJson as error:
            error.path.append(name)
            raise


def plain_list(value: list[Any] | tuple[Any, ...], depth: int) -> Iterator[Any]:
    for index, item in enumerate(value):
        try:
            yield plain_json(item, depth + 1)
        except NotJson as error:
            error.path.append(index)
            raise


def converted(value: Any) -> Any:
    try:
        return convert(value)
    except Exception as error:
        name = type(value).__qualname__
        if type(error) is not TypeError or error.args:  # raised by the model, not by `convert`
            raise NotJson(f"is a {name} that can't be dumped: {error}") from error
        raise NotJson(f"is a {name}; {REMEDIES.get(type(value), 'return only JSON')}. {ALLOWED}") from None
