"""Describes exceptions of user code for the store and the log: name, message and traceback. Rules S5.4, S10.2.

The texts are bounded, contain no password of a URL, and can be stored: lone surrogates are escaped.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from typing import Any

import taskflow
from taskflow.errors import DecodeError, StepError
from taskflow.redis.address import redact

MAX_CHARS = 16_384  # the longest message, and the longest traceback
# the longest text of an exception in its traceback, so that it doesn't push the frames out
MAX_LAST_LINES = 2_000
MAX_CHAIN = 20  # exceptions in one traceback
# Frames of taskflow, and of the pool in whose threads `def` code runs, don't help the author of the code.
OWN_CODE = (os.path.dirname(taskflow.__file__) + os.sep, os.path.join("concurrent", "futures", "thread.py"))


class Raised(Exception):
    """Carries an exception of user code that futures and tasks can't: StopIteration, SystemExit, a CancelledError of its own.

    A future refuses StopIteration, so that its waiter would wait for ever; asyncio raises SystemExit and KeyboardInterrupt out of
    the loop, which would end the process.
    """

    def __init__(self, original: BaseException) -> None:
        super().__init__(f"{type(original).__name__}: {text_of(original)}")
        self.original = original


def original_of(error: BaseException) -> BaseException:
    return error.original if isinstance(error, Raised) else error


def describe_error(error: BaseException) -> dict[str, Any]:
    """An error as it is stored: class name, message and traceback. A StepError gives those of the original error.

    `clear` marks one that is not to be encrypted: it says which key is missing to people who don't have it either (S12.2).
    """
    error = original_of(error)
    if isinstance(error, StepError) and error.name != "StepError":
        return {
            "name": error.name,
            "message": storable(error.message),
            "stack": error.stack or stack_of(error),
        }
    told = {"name": storable(type(error).__name__), "message": storable(text_of(error))}
    if isinstance(error, DecodeError):
        # Without its stack, which tells of the errors that user code was handling meanwhile: their texts may be secret.
        return {**told, "stack": "", "clear": True}
    return {**told, "stack": stack_of(error)}


def text_of(error: BaseException) -> str:
    """The text of an error, even if its own `__str__` fails."""
    try:
        return str(error)
    except BaseException as failure:
        return f"(str() of this {type(error).__name__} raised {type(failure).__name__})"


def stack_of(error: BaseException) -> str:
    """The traceback as text, with the frames of user code only."""
    try:
        told = traceback.TracebackException.from_exception(original_of(error))
        return storable("".join(parts_of(told, MAX_CHAIN)), keep_end=True)
    except BaseException as failure:  # whatever the exception does when it is looked at
        return f"(the traceback of this {type(error).__name__} can't be told: {type(failure).__name__})"


def parts_of(told: traceback.TracebackException, left: int) -> Iterator[str]:
    """The parts of a traceback: an exception, after the exceptions that led to it."""
    if left == 0:
        yield "(and more)\n"
        return
    if told.__cause__ is not None:
        yield from parts_of(told.__cause__, left - 1)
        yield "\nThe above exception was the direct cause of the following exception:\n\n"
    elif told.__context__ is not None and not told.__suppress_context__:
        yield from parts_of(told.__context__, left - 1)
        yield "\nDuring handling of the above exception, another exception occurred:\n\n"
    frames = [frame for frame in told.stack if not is_own(frame.filename)]
    if frames:
        yield "Traceback (most recent call last):\n"
        yield from traceback.StackSummary.from_list(frames).format()
    last = "".join(told.format_exception_only())
    yield last if len(last) <= MAX_LAST_LINES else f"{last[:MAX_LAST_LINES]}… (cut)\n"
    for number, one in enumerate((told.exceptions or ())[:left], 1):
        yield f"--- {number} of {len(told.exceptions or ())} in the group ---\n"
        yield from parts_of(one, left - 1)


def is_own(filename: str) -> bool:
    return filename.startswith(OWN_CODE[0]) or filename.endswith(OWN_CODE[1])


def storable(text: str, *, keep_end: bool = False) -> str:
    """The text cut to `MAX_CHARS` characters (at its beginning with `keep_end`), without passwords, lone surrogates escaped."""
    length = len(text)
    if length > MAX_CHARS:
        mark = f"… (cut: {length:,} characters)"
        text = f"{mark}\n{text[-MAX_CHARS:]}" if keep_end else f"{text[:MAX_CHARS]}{mark}"
    return redact(text.encode("utf-8", "backslashreplace").decode())
