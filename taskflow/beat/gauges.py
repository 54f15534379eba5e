"""StoreGauges: the leading beat reads in the store how much there is to do, for `/metrics`. Rule S13.1."""

from __future__ import annotations

import asyncio
from collections import Counter

from taskflow.observability.families import (
    DEAD_LETTERS,
    DEPTH,
    LIVE,
    OLDEST,
    OUTBOX_OLDEST,
    PAUSED,
    SERVING,
    TIMERS,
    TIMERS_LATE,
    WANTED,
    WORKERS,
)
from taskflow.observability.metrics import Tally
from taskflow.store.backlog import Backlog, QueueId, read_backlog
from taskflow.store.history import LiveCount
from taskflow.store.store import Store

PAUSE_MS = 5_000
QUEUED, RUNNING = "queued", "running"


class StoreGauges:
    """Reads the gauges each 5 s while this beat leads; `latest` has them, and is empty while it stands by."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.latest = Tally()
        self.next_ms = 0

    def stand_by(self) -> None:
        """Forget the gauges: those of the leading beat count."""
        self.latest = Tally()
        self.next_ms = 0

    async def run_once(self, now_ms: int) -> int:
        """Read them if it is time; return when (ms) to read again."""
        if now_ms < self.next_ms:
            return self.next_ms
        store = self.store
        backlog, live, serving, heartbeats, paused = await asyncio.gather(
            read_backlog(store.client, store.keys), store.history.live_counts(), store.history.serving(),
            store.history.heartbeats(), store.steering.paused_queues(),
        )  # fmt: skip
        tally = Tally()
        for each in live:
            tally.set(LIVE, each.runs, each.function_id, each.queue, each.status)
        workers = Counter(QueueId(each.app_id, queue) for each in serving.values() for queue in each.queues)
        note_queues(tally, live, backlog, workers, {QueueId(*queue) for queue in paused}, now_ms)
        tally.set(WORKERS, len(heartbeats))
        tally.set(TIMERS, backlog.timers)
        tally.set(TIMERS_LATE, age_s(backlog.first_timer_ms, now_ms))
        tally.set(OUTBOX_OLDEST, age_s(backlog.first_unpublished_ms, now_ms))
        tally.set(DEAD_LETTERS, backlog.dead_letters)
        self.latest = tally
        self.next_ms = now_ms + PAUSE_MS
        return self.next_ms


def note_queues(
    tally: Tally, live: list[LiveCount], backlog: Backlog, workers: Counter[QueueId], paused: set[QueueId], now_ms: int
) -> None:  # fmt: skip
    counts: Counter[tuple[QueueId, str]] = Counter()
    for each in live:
        counts[QueueId(each.function_id.partition("/")[0], each.queue), each.status] += each.runs
    queues = {queue for queue, _ in counts} | set(backlog.next_ready_ms) | set(workers) | paused
    for queue in sorted(queues):
        depth = counts[queue, QUEUED]
        tally.set(DEPTH, depth, *queue)
        tally.set(OLDEST, age_s(backlog.next_ready_ms.get(queue), now_ms), *queue)
        tally.set(WANTED, depth + counts[queue, RUNNING], *queue)
        tally.set(PAUSED, queue in paused, *queue)
        tally.set(SERVING, workers[queue], *queue)


def age_s(since_ms: int | None, now_ms: int) -> float:
    return 0.0 if since_ms is None else max(0, now_ms - since_ms) / 1000
