"""Trims history: finished runs and events whose time is over. Rule S10.1."""

from __future__ import annotations

from taskflow.store.store import Store

PAUSE_MS = 10_000  # between two looks when nothing was left
BATCH = 200
MAX_BATCHES = 50  # in one turn, so that timers are not held up


class Retention:
    """`run_once` removes what is due and says when to look again."""

    def __init__(self, store: Store, *, event_retention_ms: int) -> None:
        self.store = store
        self.event_retention_ms = event_retention_ms
        self.next_ms = 0

    async def run_once(self, now_ms: int) -> int:
        """Trim if it is time; when (ms) to look again."""
        if now_ms < self.next_ms:
            return self.next_ms
        self.next_ms = now_ms + PAUSE_MS
        for _ in range(MAX_BATCHES):
            removed = await self.store.duties.trim_history(
                event_retention_ms=self.event_retention_ms, limit=BATCH, now_ms=now_ms
            )
            if removed < BATCH:
                return self.next_ms
        self.next_ms = now_ms  # there is more
        return self.next_ms
