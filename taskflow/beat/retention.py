"""Retention: removes finished runs and events that were kept long enough. Rule S10.1."""

from __future__ import annotations

import asyncio

from taskflow.store.store import Store

PAUSE_MS = 10_000  # between two looks if little was due
BUSY_PAUSE_MS = 1_000  # if much was due: many small portions, so that a store under load does not grow
BATCH = 200
TOGETHER = 4  # batches in one round trip, which under load takes longer than the batches do
MAX_ROUNDS = 25  # in one turn, so that timers are not held up


class Retention:
    """Trims history: `run_once` removes runs and events that are due, and says when to look again."""

    def __init__(self, store: Store, *, event_retention_ms: int) -> None:
        self.store = store
        self.event_retention_ms = event_retention_ms
        self.next_ms = 0

    async def run_once(self, now_ms: int) -> int:
        """Trim if it is time; return when (ms) to look again."""
        if now_ms < self.next_ms:
            return self.next_ms
        self.next_ms = now_ms + PAUSE_MS
        for number in range(MAX_ROUNDS):
            removed = await asyncio.gather(*[self.trim(now_ms) for _ in range(TOGETHER)])
            if removed[-1] < BATCH:
                if number or removed[0] == BATCH:
                    self.next_ms = now_ms + BUSY_PAUSE_MS
                return self.next_ms
        self.next_ms = now_ms  # there is more
        return self.next_ms

    async def trim(self, now_ms: int) -> int:
        return await self.store.duties.trim_history(
            event_retention_ms=self.event_retention_ms, limit=BATCH, now_ms=now_ms
        )
