"""Deadline: the common time limit of everything that one call does."""

from __future__ import annotations

import time


class Deadline:
    """The end of a time limit: `at` is a point on the monotonic clock, `timeout_s` from now."""

    def __init__(self, timeout_s: float) -> None:
        self.at = time.monotonic() + timeout_s

    def remaining_s(self) -> float:
        """The seconds that are left. Raises TimeoutError if there are none."""
        remaining = self.at - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the time was used up")
        return remaining
