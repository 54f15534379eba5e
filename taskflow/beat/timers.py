"""Timers: fires sleeps, retries, timeouts and delayed starts when they are due. Rules S3.2, S6.3, S8.2."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from taskflow.store.hints import Hint
from taskflow.store.store import Store

BATCH = 150  # timers in one call of the script, so that it blocks the store for at most about 2 ms

SendWork = Callable[[Sequence[Hint]], None]


class Timers:
    """Fires the timers of the store: `run_once` fires those that are due, and says when the next one is."""

    def __init__(self, store: Store, send_work: SendWork) -> None:
        self.store = store
        self.send_work = send_work
        self.next_ms: int | None = 0  # when the next timer is due, as far as is known; None if there is none

    def look_again(self) -> None:
        """Ask the store at the next turn: the next timer may be another one."""
        self.next_ms = 0

    async def run_once(self, now_ms: int) -> int | None:
        """Fire all timers that are due; return when (ms) the next one is, or None. Asks the store only if one may be due."""
        while self.next_ms is not None and self.next_ms <= now_ms:
            fired = await self.store.duties.fire_timers(limit=BATCH, now_ms=now_ms)
            if fired.hints:
                self.send_work(fired.hints)
            if fired.count < BATCH:
                self.next_ms = fired.next_due_ms
                break
        return self.next_ms
