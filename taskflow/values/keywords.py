"""Checks keyword arguments against a TypedDict: with `**options: Unpack[...]` Python does not check their names at run time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def check_keywords(given: Iterable[str], allowed: Any, *, what: str) -> None:
    """Raise TypeError for a name in `given` that the TypedDict `allowed` does not have; it suggests the nearest name."""
    known: frozenset[str] = allowed.__required_keys__ | allowed.__optional_keys__
    for name in given:
        if name not in known:
            raise TypeError(f"{what} has no keyword {name!r}{did_you_mean(name, known)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known name, or all known names if none is near."""
    # Only a mistake pays for the import.
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f". There are {', '.join(sorted(known))}."
