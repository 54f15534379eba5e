"""Whether a process still owns what it claimed, as those who write for it ask. Rule S9.4."""

from __future__ import annotations

from typing import Protocol

LEASE_LOST = -1  # in place of an epoch: what was claimed is perhaps somebody else's by now


class Lease(Protocol):
    """The lease of a process: its supervisor prolongs it with each heartbeat."""

    @property
    def epoch(self) -> int:
        """Grows each time the process was declared dead; claims of an older epoch are lost."""
        ...

    def is_valid(self, *, epoch: int | None = None) -> bool: ...
