"""Text that a person reads: one line of it, with nothing in it that acts on a terminal."""

from __future__ import annotations

MAX_REASON_CHARS = 120


def short(text: str, limit: int = MAX_REASON_CHARS) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
