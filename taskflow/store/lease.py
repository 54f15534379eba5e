"""Lease: tells a process whether it still owns the runs that it has claimed. Rule S9.4."""

from __future__ import annotations

from typing import Protocol

LEASE_LOST = -1  # in place of an epoch: another process may have the claimed runs by now


class Lease(Protocol):
    """The lease of a process. Its supervisor prolongs it with each heartbeat."""

    @property
    def epoch(self) -> int:
        """A number that grows each time the process is declared dead; claims of an older epoch are lost."""
        ...

    def is_valid(self, *, epoch: int | None = None) -> bool: ...
