"""Headers: short strings by name that travel with an event and with all that comes of it. Rule S11.1.

A header says something of the circumstances rather than of the matter: a tenant, a session, who asked, the context of a trace.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

Headers: TypeAlias = Mapping[str, str]

NO_HEADERS: Headers = MappingProxyType({})

MAX_HEADER_BYTES = 8 * 1024
"""Of all names and values of an event together, in UTF-8."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def find_header_problem(headers: Any) -> str | None:
    """What breaks S11.1, or None."""
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
    """The headers of what a run with `inherited` ones sends or starts: its own beat them."""
    if not own:
        return inherited
    return {**inherited, **own} if inherited else own
