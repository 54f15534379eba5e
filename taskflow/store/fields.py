"""Reads stored hashes: fields as text and as whole numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def to_fields(flat: Sequence[bytes]) -> dict[str, bytes]:
    """The hash that HGETALL returned as a flat list of names and values."""
    return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}


def text(fields: Mapping[str, bytes], name: str) -> str:
    """A field as text; "" if the hash does not have it."""
    return fields.get(name, b"").decode()


def number(fields: Mapping[str, bytes], name: str) -> int | None:
    """A field as a whole number, which a script may have written as 1.7e+12; None if the hash does not have it."""
    raw = fields.get(name)
    return int(float(raw)) if raw else None


def to_numbers(flat: Sequence[bytes]) -> dict[str, int]:
    """Members with their scores, or names with their numbers, which the server returned as a flat list."""
    return {flat[i].decode(): int(float(flat[i + 1])) for i in range(0, len(flat), 2)}
