"""One message: as it lies in a stream, and as a consumer of any broker hands it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

CONTENT_TYPE, CONTENT_ENCODING = "application/json", "utf-8"
"""Of every message that taskflow sends."""


class Entry(NamedTuple):
    """One message of a stream. `redelivered`: it was delivered before, and not acknowledged."""

    queue: str
    entry_id: bytes
    metadata: bytes  # JSON: what kombu knows of a message besides its body
    body: bytes
    redelivered: bool


@dataclass(slots=True)
class Delivery:
    """One message, to be acked or rejected. `redelivered`: it was delivered before, to whomever."""

    queue: str
    body: bytes
    redelivered: bool
    # What the consumer knows the message by.
    message: Any = field(repr=False, compare=False)
    # Why it can't be used; `body` is as it came then.
    problem: str = ""


def to_entry(
    queue: str, entry_id: bytes, fields: Sequence[bytes] | None, *, redelivered: bool = False
) -> Entry:
    """An entry as the server gives it: its fields are `m`, metadata, `b`, body, and `r` for one that was given back."""
    if fields is None or len(fields) < 4:  # another program wrote to our stream
        return Entry(queue, entry_id, b"{}", b"", redelivered)
    return Entry(queue, entry_id, fields[1], fields[3], redelivered or len(fields) > 4)


def find_problem(content_type: object, content_encoding: object, headers: object) -> str:
    """Why a message can't be one that taskflow has written, or "". To be asked before its body is unpacked or decoded.

    A compressed body of 500 KB may become 500 MB, and there are codecs that take a square of time.
    """
    if isinstance(headers, dict) and "compression" in headers:
        return f"it is compressed ({headers['compression']!r:.60}), and taskflow compresses nothing"
    if content_type != CONTENT_TYPE:
        return f"its content type is {content_type!r:.60}, not {CONTENT_TYPE!r}"
    if content_encoding != CONTENT_ENCODING:
        return f"its content encoding is {content_encoding!r:.60}, not {CONTENT_ENCODING!r}"
    return ""


def find_metadata_problem(metadata: bytes) -> str:
    """As `find_problem`, of an entry's metadata."""
    try:
        facts = orjson.loads(metadata)
    except ValueError as error:
        return f"its metadata is no JSON: {error}"
    if not isinstance(facts, dict):
        return f"its metadata is a JSON {type(facts).__name__}, not an object"
    return find_problem(facts.get("content-type"), facts.get("content-encoding"), facts.get("headers"))
