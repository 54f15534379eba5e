"""Due sleeps, retries, time-outs and delayed starts. Rules S3.2, S6.3, S8.2."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from taskflow.store.hints import Hint
from taskflow.store.store import Store

BATCH = 200  # timers in one script, so that it blocks the store for about 2 ms at most

SendWork = Callable[[Sequence[Hint]], None]


class Timers:
    """`run_once` fires what is due and says when the next is."""

    def __init__(self, store: Store, send_work: SendWork) -> None:
        self.store = store
        self.send_work = send_work
        self.next_ms: int | None = 0  # when the next is due, as far as is known; None: there is none

    def look_again(self) -> None:
        """What is known of the next timer may be wrong."""
        self.next_ms = 0

    async def run_once(self, now_ms: int) -> int | None:
        """Fire all timers that are due; the due time (ms) of the next, or None. Asks the store only when one may be due."""
        while self.next_ms is not None and self.next_ms <= now_ms:
            fired = await self.store.duties.fire_timers(limit=BATCH, now_ms=now_ms)
            if fired.hints:
                self.send_work(fired.hints)
            if fired.count < BATCH:
                self.next_ms = fired.next_due_ms
                break
        return self.next_ms
