"""Lease (S9.4) and Progress (S9.9): memory that the supervisor shares with each child."""

from __future__ import annotations

import mmap

from taskflow.values.clock import boot_ns

CELL_BYTES = 8
NS_PER_S = 1_000_000_000


class SharedCells:
    """A few signed 64-bit integers that a forked process shares with its parent; all are 0 at first.

    A cell is written and read as one aligned 8-byte word, so no lock is needed, and no reader sees half a value.
    """

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, count * CELL_BYTES)
        self._cells = memoryview(self._memory).cast("q")

    def __getitem__(self, index: int) -> int:
        return self._cells[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._cells[index] = value

    def close(self) -> None:
        """Unmap the memory in this process; other processes keep it."""
        self._cells.release()
        self._memory.close()


class Lease:
    """The time for which a child may start steps without news from the store. Rule S9.4.

    The supervisor writes when it *sent* the last heartbeat that named this child and that the store accepted. The child looks
    before it claims, and before it starts a step. So a child that the store doesn't know yet claims nothing, and a child that was
    paused for longer than its lease starts nothing that another process may have done since; neither needs a message for that.
    `lease_s` must be shorter than the time after which beat declares a worker dead. The clock counts a suspend of the machine: a
    laptop that slept for an hour has lost its lease.
    """

    CONFIRMED_NS, EPOCH = 0, 1

    def __init__(self, *, lease_s: float) -> None:
        self.lease_s = lease_s
        self._cells = SharedCells(2)

    @property
    def epoch(self) -> int:
        """A number that grows each time the store says that it had declared this worker dead and handed back its claims.

        Read it before you claim. A claim of an older epoch isn't ours any more, even if the lease is valid again: hand it back (the
        fence makes that harmless) and forget the run.
        """
        return self._cells[self.EPOCH]

    def remaining_s(self) -> float:
        """Seconds until the lease ends; 0 or less when it has ended or never began."""
        confirmed_ns = self._cells[self.CONFIRMED_NS]
        if confirmed_ns == 0:
            return 0.0
        return self.lease_s - (boot_ns() - confirmed_ns) / NS_PER_S

    def is_valid(self, *, epoch: int | None = None) -> bool:
        """Whether the child may claim, or start a step: time is left, and `epoch`, if given, is the present one."""
        if epoch is not None and epoch != self.epoch:
            return False
        return self.remaining_s() > 0

    def renew(self, sent_ns: int) -> None:
        """Note that the store confirmed a heartbeat that was sent at `sent_ns` (see `boot_ns`). For the supervisor."""
        self._cells[self.CONFIRMED_NS] = sent_ns

    def lose(self) -> None:
        """End the lease and begin a new epoch: the store had declared this worker dead, so no claim counts. For the supervisor."""
        self._cells[self.CONFIRMED_NS] = 0
        self._cells[self.EPOCH] += 1

    def close(self) -> None:
        self._cells.close()


class Progress:
    """When a child's loop last turned, in shared memory: a child is healthy if it makes progress, not if it lives. Rule S9.9.

    And since when it has no connection to the broker, which makes a worker not ready (S13.3).
    """

    LOOP, BROKER_LOST = 0, 1

    def __init__(self) -> None:
        self._cells = SharedCells(2)

    def loop_turned(self) -> None:
        """Note that the child's event loop turns. Call it at least once a second, from a timer of the loop."""
        self._cells[self.LOOP] = boot_ns()

    def note_broker(self, *, is_connected: bool) -> None:
        """Note whether the child has its connection to the broker now."""
        if is_connected:
            self._cells[self.BROKER_LOST] = 0
        elif self._cells[self.BROKER_LOST] == 0:
            self._cells[self.BROKER_LOST] = boot_ns()

    @property
    def broker_lost_s(self) -> float | None:
        """Seconds since the child lost the broker; None while it is connected, and before it connects."""
        lost_ns = self._cells[self.BROKER_LOST]
        return None if lost_ns == 0 else (boot_ns() - lost_ns) / NS_PER_S

    @property
    def turned_ns(self) -> int:
        """When the loop last turned (see `boot_ns`); 0 before its first turn."""
        return self._cells[self.LOOP]

    @property
    def loop_age_s(self) -> float | None:
        """Seconds since the loop last turned; None before its first turn."""
        at_ns = self._cells[self.LOOP]
        return None if at_ns == 0 else (boot_ns() - at_ns) / NS_PER_S

    def close(self) -> None:
        self._cells.close()
