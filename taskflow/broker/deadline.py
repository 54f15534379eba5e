"""A deadline for all that one call does."""

from __future__ import annotations

import time


class Deadline:
    """A point on the monotonic clock."""

    def __init__(self, timeout_s: float) -> None:
        self.at = time.monotonic() + timeout_s

    def remaining_s(self) -> float:
        """Seconds left. Raises TimeoutError if there are none."""
        remaining = self.at - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the time was used up")
        return remaining
