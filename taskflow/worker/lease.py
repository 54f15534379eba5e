"""Memory that a supervisor shares with each child: its lease (S9.4) and its progress (S9.9)."""

from __future__ import annotations

import mmap

from taskflow.values.clock import boot_ns

CELL_BYTES = 8
NS_PER_S = 1_000_000_000


class SharedCells:
    """A few signed 64-bit integers that a fork shares with its parent, all 0 at first.

    A cell is written and read as one aligned 8-byte word: no lock is needed, no reader sees half a value.
    """

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, count * CELL_BYTES)
        self._cells = memoryview(self._memory).cast("q")

    def __getitem__(self, index: int) -> int:
        return self._cells[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._cells[index] = value

    def close(self) -> None:
        """Unmap it in this process; others keep theirs."""
        self._cells.release()
        self._memory.close()


class Lease:
    """How long a child may start steps without news from the store. Rule S9.4.

    The supervisor writes when it *sent* the last heartbeat that named this child and that the store took; the
    child looks before it claims, and before it starts a step. So a child of which the store knows nothing yet
    claims nothing, and one that was paused for longer than its lease starts nothing that somebody else may
    have done since; neither needs a message to know. `lease_s` must be shorter than the time after which beat
    declares a worker dead. A laptop that slept for an hour has lost its lease: the clock counts that.
    """

    CONFIRMED_NS, EPOCH = 0, 1

    def __init__(self, *, lease_s: float) -> None:
        self.lease_s = lease_s
        self._cells = SharedCells(2)

    @property
    def epoch(self) -> int:
        """Grows each time the store says that it had declared this worker dead and handed back its claims.

        Read it before you claim. A claim of an older epoch isn't ours any more, even once the lease is valid
        again: hand it back (its fence makes that harmless) and forget the run.
        """
        return self._cells[self.EPOCH]

    def remaining_s(self) -> float:
        """Seconds until the lease ends; 0 or less when it has ended or never began."""
        confirmed_ns = self._cells[self.CONFIRMED_NS]
        if confirmed_ns == 0:
            return 0.0
        return self.lease_s - (boot_ns() - confirmed_ns) / NS_PER_S

    def is_valid(self, *, epoch: int | None = None) -> bool:
        """Whether to claim or start a step: time is left, and `epoch`, if given, is still ours."""
        if epoch is not None and epoch != self.epoch:
            return False
        return self.remaining_s() > 0

    def renew(self, sent_ns: int) -> None:
        """The store confirmed a heartbeat that was sent at `sent_ns` (see `boot_ns`). For the supervisor."""
        self._cells[self.CONFIRMED_NS] = sent_ns

    def lose(self) -> None:
        """The store had declared this worker dead: no claim counts any more. For the supervisor."""
        self._cells[self.CONFIRMED_NS] = 0
        self._cells[self.EPOCH] += 1

    def close(self) -> None:
        self._cells.close()


class Progress:
    """When the loop of one child last turned, in shared memory: health by progress, not by being alive. Rule S9.9."""

    LOOP = 0

    def __init__(self) -> None:
        self._cells = SharedCells(1)

    def loop_turned(self) -> None:
        """The child's event loop turns. Call it at least once a second, from a timer of the loop."""
        self._cells[self.LOOP] = boot_ns()

    @property
    def loop_age_s(self) -> float | None:
        """Seconds since the loop last turned; None before its first turn."""
        at_ns = self._cells[self.LOOP]
        return None if at_ns == 0 else (boot_ns() - at_ns) / NS_PER_S

    def close(self) -> None:
        self._cells.close()
