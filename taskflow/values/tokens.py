"""Tokens: short texts for JSON values, the same for equal values, by which the store looks values up. Rules S3.3, S7."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import orjson

MAX_CHARS = 200
# As ints, orjson writes what fits into 64 bits, with or without a sign.
WHOLE = (-(2.0**63), 2.0**64)


def token_of(value: Any) -> str:
    """A JSON value as text without control characters; a hash if it is long. 1 and 1.0 have one token: they are equal in CEL."""
    text = orjson.dumps(with_whole_numbers(value), option=orjson.OPT_SORT_KEYS).decode()
    if len(text) > MAX_CHARS:
        return "#" + blake2b(text.encode(), digest_size=16).hexdigest()
    return text


def with_whole_numbers(value: Any) -> Any:
    """`value` with each whole float in it, also in lists and objects, as an int."""
    if isinstance(value, float) and value.is_integer() and WHOLE[0] <= value < WHOLE[1]:
        return int(value)
    if isinstance(value, list):
        return [with_whole_numbers(item) for item in value]
    if isinstance(value, dict):
        return {name: with_whole_numbers(item) for name, item in value.items()}
    return value
