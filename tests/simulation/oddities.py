"""Oddities: what user code may raise, and what users may write into each field that is theirs. Rules S1.5, S5.4, S11.1."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class WorkFailed(Exception):
    """What steps and handlers of the workload raise as a rule."""


class Mute(Exception):
    """One that can't even be told."""

    def __str__(self) -> str:
        raise ValueError("no words")


class Alarm(BaseException):
    """A user's own, past `except Exception`."""


def group(text: str) -> ExceptionGroup[WorkFailed]:
    return ExceptionGroup(text, [WorkFailed(text)])


ERRORS: dict[str, Callable[[str], BaseException]] = {
    "WorkFailed": WorkFailed,
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "CancelledError": asyncio.CancelledError,
    "TimeoutError": TimeoutError,
    "ExceptionGroup": group,
    "Mute": Mute,
    "Alarm": Alarm,
}

PRINTABLE = (":", "a:b", "{x}", "{}", "%s %d", "'\"\\", "ü😀", "*", " ", "|", "[0]")
"""Parts of names that have a form of their own, as the ids of steps have."""

TEXTS = (*PRINTABLE, "\x00", "\x1f", "\n", "a\x1fb\x00c", "\x1b[31m", "\u202e", "\u2028")
"""Parts of any text that is sent: separators of keys and of lines, ends of strings, braces, marks."""

BROKEN = "half a \ud83d of a character"
"""What UTF-8 can't express: the text of an error may hold it, whatever is sent is refused with it."""
