"""Looks after what others lost: claims of dead workers, work messages, events that were not published. Rules S9.2, S9.3."""

from __future__ import annotations

import logging

from taskflow.beat.timers import PublishEvents, SendWork
from taskflow.store.store import Store

logger = logging.getLogger("taskflow.beat")

SILENCE_MS = (
    11_000  # without a heartbeat for this long, a host is dead; workers stop by themselves after 10 s (S9.4)
)
HINT_AGE_MS = 3_000  # a work message that is older counts as lost
EVENT_AGE_MS = 5_000  # an event in the outbox that is older was not published by its worker


class Reaper:
    """`run_once` at most once a second."""

    def __init__(self, store: Store, send_work: SendWork, publish: PublishEvents) -> None:
        self.store = store
        self.send_work = send_work
        self.publish = publish

    async def run_once(self, now_ms: int) -> None:
        await self.bury_dead(now_ms)
        hints, events = await self.store.duties.find_lost(
            hint_age_ms=HINT_AGE_MS, event_age_ms=EVENT_AGE_MS, now_ms=now_ms
        )
        if hints:
            self.send_work(hints)
        if events:
            await self.publish(events)

    async def bury_dead(self, now_ms: int) -> None:
        for worker in await self.store.duties.find_dead(dead_before_ms=now_ms - SILENCE_MS):
            count = 0
            for child_id in worker.child_ids:
                count += await self.store.claims.hand_back(
                    child_id,
                    [],
                    crashed=True,
                    cause=f"its host gave no heartbeat for {SILENCE_MS // 1000} s",
                    now_ms=now_ms,
                )
            # Forget it last: should this beat die in between, the next one finds the worker again.
            await self.store.duties.forget_worker(worker.worker_id, silent_since_ms=now_ms - SILENCE_MS)
            logger.warning("worker %s is silent; %d of its runs go to others", worker.worker_id, count)
