"""Headers: short strings by name. An event has them, and its runs and their events inherit them. Rule S11.1.

A header tells the circumstances and not the matter: the tenant, the session, who asked, the context of a trace.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

Headers: TypeAlias = Mapping[str, str]

NO_HEADERS: Headers = MappingProxyType({})

MAX_HEADER_BYTES = 8 * 1024
"""The greatest size of all names and values of an event together, in UTF-8."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def find_header_problem(headers: Any) -> str | None:
    """How the headers break S11.1, as a text for an error; None if they don't."""
    if not isinstance(headers, Mapping):
        return f"headers must be a dict of str to str or None, got {type(headers).__name__}"
    size = 0
    for name, value in headers.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            return (
                "the name of a header must have 1 to 64 of the characters a-z, A-Z, 0-9, '.', '_' and '-', and begin with a letter "
                f"or digit, got {name!r:.80}"
            )
        if not isinstance(value, str):
            return f"header {name!r} must be a str, got {type(value).__name__}; write str(...), or put it into data"
        try:
            size += len(name) + len(value.encode())
        except UnicodeEncodeError:
            return f"header {name!r} has lone surrogates, which UTF-8 can't express"
    if size > MAX_HEADER_BYTES:
        return (
            f"headers have {size:,} bytes, but at most {MAX_HEADER_BYTES:,} are allowed, those that are inherited included; "
            "put what is long into data"
        )
    return None


def inherit(inherited: Headers, own: Headers | None) -> Headers:
    """The headers of an event or run that a run with the headers `inherited` sends or starts. `own` ones beat inherited ones."""
    if not own:
        return inherited
    return {**inherited, **own} if inherited else own
