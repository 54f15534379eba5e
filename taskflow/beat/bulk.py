"""Bulk duty: carries bulk operations on, a portion of each at a time. Rule S14.6."""

from __future__ import annotations

from taskflow.beat.timers import SendWork
from taskflow.runs.bulk import carry_on
from taskflow.store.store import Store

PORTIONS = 5  # of each operation in one turn, so that timers are not held up


class BulkDuty:
    """Carries on the bulk operations that run. `look` says that there are some; without, nothing is asked of the store."""

    def __init__(self, store: Store, send_work: SendWork, *, max_event_bytes: int) -> None:
        self.store = store
        self.send_work = send_work
        self.max_event_bytes = max_event_bytes
        self.are_some = False

    async def run_once(self, now_ms: int) -> int | None:
        """Do some portions of each operation; return when (ms) to go on: at once while one runs, or None."""
        for _ in range(PORTIONS):
            if not self.are_some:
                return None
            running = await self.store.bulks.running()
            self.are_some = bool(running)
            for stored in running:
                hints = await carry_on(
                    self.store, stored, max_event_bytes=self.max_event_bytes, now_ms=now_ms
                )
                if hints:
                    self.send_work(hints)
        return now_ms
