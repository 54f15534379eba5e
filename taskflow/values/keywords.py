"""Keywords that a TypedDict lists: what Python checks of a signature, and `**options: Unpack[...]` leaves to us."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def check_keywords(given: Iterable[str], allowed: Any, *, what: str) -> None:
    """Raise TypeError, which says what may have been meant, unless the TypedDict `allowed` has all names that were given."""
    known: frozenset[str] = allowed.__required_keys__ | allowed.__optional_keys__
    for name in given:
        if name not in known:
            raise TypeError(f"{what} has no keyword {name!r}{did_you_mean(name, known)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What to add to an error about a name that is not known: the nearest one, else all of them."""
    # Only a mistake pays for the import.
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f". There are {', '.join(sorted(known))}."
