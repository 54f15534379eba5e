"""Reaper: finds claims of dead workers, lost work messages, and events that were not published. Rules S9.2, S9.3."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from taskflow.beat.timers import SendWork
from taskflow.store.duties import DeadWorker, Lost
from taskflow.store.store import Store

logger = logging.getLogger("taskflow.beat")

SILENCE_MS = (
    11_000  # without a heartbeat for this long, a host is dead; workers stop by themselves after 10 s (S9.4)
)
HINT_AGE_MS = 3_000  # a work message that is older counts as lost
EVENT_AGE_MS = 5_000  # an event in the outbox that is older was not published by its worker


PAUSE_MS = 2_000  # between two looks, if nothing is about to count as lost
SHORTEST_PAUSE_MS = 1_000


class Reaper:
    """Hands back claims of dead workers, and sends lost work messages and events again. `next_ms` is when to look next."""

    def __init__(self, store: Store, send_work: SendWork) -> None:
        self.store = store
        self.send_work = send_work
        self.next_ms = 0

    async def run_once(self, now_ms: int) -> Lost | None:
        """Look for lost work and make up for it; return what was lost, or None while it is too early to look."""
        if now_ms < self.next_ms:
            return None
        lost = await self.store.duties.find_lost(
            hint_age_ms=HINT_AGE_MS, event_age_ms=EVENT_AGE_MS, silence_ms=SILENCE_MS, now_ms=now_ms
        )
        # Look again in time for the next entry that will count as lost, so that pauses add nothing to the ages above.
        soon_ms = now_ms + PAUSE_MS if lost.next_ms is None else min(lost.next_ms, now_ms + PAUSE_MS)
        self.next_ms = max(soon_ms, now_ms + SHORTEST_PAUSE_MS)
        await self.bury(lost.workers, now_ms)
        if lost.hints or lost.events:
            self.send_work([*lost.hints, *lost.events])
        return lost

    async def bury(self, workers: Sequence[DeadWorker], now_ms: int) -> None:
        for worker in workers:
            count = 0
            for child_id in worker.child_ids:
                handed_back, hints = await self.store.claims.hand_back(
                    child_id,
                    [],
                    crashed=bool(worker.worker_id),
                    cause=f"its host gave no heartbeat for {SILENCE_MS // 1000} s",
                    now_ms=now_ms,
                )
                count += handed_back
                if hints:
                    self.send_work(hints)
            if not worker.worker_id:
                logger.info(
                    "%d runs were claimed late by child %s, which had ended", count, *worker.child_ids
                )
                continue
            # Forget the worker last: if this beat dies in between, the next one finds the worker again.
            await self.store.duties.forget_worker(worker.worker_id, silent_since_ms=now_ms - SILENCE_MS)
            logger.warning("worker %s is silent; %d of its runs go to others", worker.worker_id, count)
