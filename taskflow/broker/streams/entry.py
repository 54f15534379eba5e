"""The two forms of a received message: Entry, as it lies in a stream, and Delivery, as consumers of all brokers hand it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

CONTENT_TYPE, CONTENT_ENCODING = "application/json", "utf-8"
"""Type and encoding of every message that taskflow sends."""


class Entry(NamedTuple):
    """A message of a stream. `redelivered`: it was delivered before, and not acknowledged."""

    queue: str
    entry_id: bytes
    metadata: bytes  # JSON: all that kombu knows of a message besides its body
    body: bytes
    redelivered: bool


@dataclass(slots=True)
class Delivery:
    """A message to be acked or rejected. `redelivered`: it was delivered before, to this or another consumer."""

    queue: str
    body: bytes
    redelivered: bool
    # The consumer's own object for the message.
    message: Any = field(repr=False, compare=False)
    # Why taskflow can't have written the message, or empty; if not empty, `body` is left as it came.
    problem: str = ""


def to_entry(
    queue: str, entry_id: bytes, fields: Sequence[bytes] | None, *, redelivered: bool = False
) -> Entry:
    """Make an Entry of the server's reply. Its fields are `m` (metadata), `b` (body), and `r` if the message was given back."""
    if fields is None or len(fields) < 4:  # another program wrote to our stream
        return Entry(queue, entry_id, b"{}", b"", redelivered)
    return Entry(queue, entry_id, fields[1], fields[3], redelivered or len(fields) > 4)


def find_problem(content_type: object, content_encoding: object, headers: object) -> str:
    """Why taskflow can't have written the message, or "". Ask before its body is decompressed or decoded.

    A compressed body of 500 KB may become 500 MB, and some codecs take a time that grows with the square of the size.
    """
    if isinstance(headers, dict) and "compression" in headers:
        return f"it is compressed ({headers['compression']!r:.60}), and taskflow compresses nothing"
    if content_type != CONTENT_TYPE:
        return f"its content type is {content_type!r:.60}, not {CONTENT_TYPE!r}"
    if content_encoding != CONTENT_ENCODING:
        return f"its content encoding is {content_encoding!r:.60}, not {CONTENT_ENCODING!r}"
    return ""


def find_metadata_problem(metadata: bytes) -> str:
    """As `find_problem`, for the metadata of an entry."""
    try:
        facts = orjson.loads(metadata)
    except ValueError as error:
        return f"its metadata is no JSON: {error}"
    if not isinstance(facts, dict):
        return f"its metadata is a JSON {type(facts).__name__}, not an object"
    return find_problem(facts.get("content-type"), facts.get("content-encoding"), facts.get("headers"))
