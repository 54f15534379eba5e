"""Clock, the source of `now` that is injected everywhere. Rule S8.3."""

from __future__ import annotations

import logging
import time
from functools import cache
from typing import Protocol

logger = logging.getLogger(__name__)

MAX_SILENT_SKEW_MS = 1_000
BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux's CLOCK_MONOTONIC stands still while the machine is suspended; elsewhere it does not."""


def boot_ns() -> int:
    """Nanoseconds since boot: one clock for all processes of this machine, which nobody can set and which counts a suspend."""
    return time.clock_gettime_ns(BOOT_CLOCK)


@cache
def machine_clock() -> SystemClock:
    """A clock of this process that nothing corrects, for callers that keep the distance to the store's clock themselves."""
    return SystemClock()


class Clock(Protocol):
    """Says what time it is."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        ...


class SystemClock:
    """The store's time, counted by this machine. Rule S8.3.

    It reads the machine's clock once, when it is made, counts on by a clock that nobody can set, and adds `offset_ms`, the distance
    to the store's clock. So setting the machine's clock changes nothing in this process, and a suspend counts as time.
    """

    def __init__(self, *, offset_ms: int = 0) -> None:
        self.offset_ms = offset_ms
        self._start_ms = self.wall_ms() - self.boot_ms()
        self._skew_is_logged = False

    def wall_ms(self) -> int:
        """Milliseconds since the epoch by the machine's clock, which may be set at any time."""
        return time.time_ns() // 1_000_000

    def boot_ms(self) -> int:
        """Milliseconds by a clock that nobody can set and that counts the time of a suspend."""
        return time.clock_gettime_ns(BOOT_CLOCK) // 1_000_000

    def now_ms(self) -> int:
        """Milliseconds since the epoch by the store's clock, as far as it is known."""
        return self.boot_ms() + self._start_ms + self.offset_ms

    def local_now_ms(self) -> int:
        """Milliseconds since the epoch without the store's correction."""
        return self.boot_ms() + self._start_ms

    def was_set(self) -> bool:
        """Whether the machine's clock was set by more than 1 s since the last call of this method.

        `now_ms` does not change. But the store may run on this machine and follow the same clock: ask the store for its time then.
        """
        step_ms = self.wall_ms() - self.local_now_ms()
        if abs(step_ms) <= MAX_SILENT_SKEW_MS:
            return False
        self._start_ms += step_ms
        self.offset_ms -= step_ms
        return True

    def correct(self, store_now_ms: int, *, local_now_ms: int, error_ms: int = 0) -> None:
        """Follow the store's clock: its TIME was `store_now_ms` when `local_now_ms()` was `local_now_ms`, give or take `error_ms`.

        Pass the middle between question and answer as `local_now_ms`, and half of the time between them as `error_ms`. A slow
        answer is imprecise, so the known offset is kept as far as it agrees with the answer. A skew of more than 1 s is logged
        once, and again only after it was gone in between.
        """
        measured_ms = store_now_ms - local_now_ms
        self.offset_ms = max(measured_ms - error_ms, min(self.offset_ms, measured_ms + error_ms))
        self.report_skew()

    def report_skew(self) -> None:
        """Log a warning when the machine's clock is more than 1 s from the store's; once for each time that this begins."""
        is_skewed = abs(self.offset_ms) > MAX_SILENT_SKEW_MS
        if is_skewed and not self._skew_is_logged:
            logger.warning(
                "this machine's clock is %.1f s %s the store's; taskflow corrects for it, "
                "but check the time service (NTP) of both",
                abs(self.offset_ms) / 1000,
                "behind" if self.offset_ms > 0 else "ahead of",
            )
        self._skew_is_logged = is_skewed


class VirtualClock:
    """A clock that stands still until a test advances it."""

    def __init__(self, start_ms: int) -> None:
        self._now_ms = start_ms

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self._now_ms

    def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0, ms: int = 0
    ) -> int:
        """Move the clock forward by the sum of the arguments; return the new time in ms. Raises ValueError for a negative sum."""
        step_ms = round((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000) + ms
        if step_ms < 0:
            raise ValueError(f"a clock only moves forward, got {step_ms} ms")
        self._now_ms += step_ms
        return self._now_ms
