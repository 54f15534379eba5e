"""How all peers are timed alike: a task writes a mark of 24 bytes into a file in memory, at the moment that counts.

The clock is CLOCK_MONOTONIC, which all processes of a machine share. A mark costs about 1 us, for every peer.
"""

from __future__ import annotations

import functools
import os
import struct
import time
from enum import IntEnum
from pathlib import Path

BRANCHES = 100  # of a fan-out
STEPS = 10  # of a run
VARIABLE = "BENCH_MARKS"  # the file, for workers and client

LAYOUT = struct.Struct("<qqq")


class Kind(IntEnum):
    """What has just happened."""

    NOOP = 1  # an empty task runs
    STARTED = 2  # a run of ten steps has begun
    ENDED = 3  # its last step is stored
    JOINED = 4  # all branches of a fan-out have ended, and what comes after them runs
    WOKEN = 5  # a timer's task goes on
    WAITING = 6  # a run is about to wait for its event
    RESUMED = 7  # it has got it


def mark(kind: Kind, number: int) -> None:
    """Write that it happened now. Safe from any thread and process: an append this short is one piece."""
    os.write(opened(), LAYOUT.pack(kind, number, time.monotonic_ns()))


@functools.cache
def opened() -> int:
    return os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND)


class Marks:
    """The reader's side. What is marked again (a replay, a retry) keeps its first time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.touch()
        self.at: dict[Kind, dict[int, int]] = {kind: {} for kind in Kind}  # number -> monotonic ns
        self.repeats = 0  # empty tasks that were executed more than once
        self._read = 0

    def refresh(self) -> None:
        """Take in what was written since the last call."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = len(data) - len(data) % LAYOUT.size
        self._read += whole
        for kind, number, at_ns in LAYOUT.iter_unpack(data[:whole]):
            known = self.at[Kind(kind)]
            self.repeats += kind == Kind.NOOP and number in known
            known.setdefault(number, at_ns)

    def missing(self, kind: Kind, numbers: range) -> int:
        """How many of the numbers have no such mark yet."""
        self.refresh()
        known = self.at[kind]
        return sum(number not in known for number in numbers)

    def of(self, kind: Kind, numbers: range) -> list[int]:
        """When each was marked (monotonic ns). Raises KeyError."""
        return [self.at[kind][number] for number in numbers]
