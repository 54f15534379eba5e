"""Reads the queues of apps: their live runs, the workers that serve them, and whether they are paused. Rules S7.2, S10.4."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict
from typing import Any

from taskflow.errors import ConfigError
from taskflow.run import RunStatus
from taskflow.runs.functions import find_registered
from taskflow.store.store import Store
from taskflow.values.keywords import did_you_mean
from taskflow.values.record import record


@record
class QueueView:
    """A queue with the numbers of its live runs by status; `workers` is the number of workers that say that they serve it."""

    app: str
    name: str
    queued: int
    running: int
    waiting: int
    scheduled: int
    workers: int
    paused_ms: int | None  # since when it is paused (ms since the epoch)

    @property
    def id(self) -> str:
        """The full id of the queue: "app/queue"."""
        return f"{self.app}/{self.name}"

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, **asdict(self)}


async def find_queues(store: Store, app_id: str | None = None) -> list[QueueView]:
    """The queues of all apps, or of one, ordered by id: those that functions name, that workers serve, or that have live runs.

    It reads counts that the store keeps, so its time does not grow with the runs.
    """
    registered, counts, serving, paused = await asyncio.gather(
        find_registered(store), store.history.live_counts(), store.history.serving(), store.steering.paused_queues()
    )  # fmt: skip
    live: Counter[tuple[str, str, str]] = Counter()
    for each in counts:
        live[each.function_id.partition("/")[0], each.queue, each.status] += each.runs
    workers = Counter((each.app_id, queue) for each in serving.values() for queue in each.queues)
    known = {
        *((each.spec.app_id, each.spec.queue) for each in registered.functions),
        *((app, queue) for app, queue, _ in live),
        *workers,
        *paused,
    }
    return [
        QueueView(
            app,
            queue,
            queued=live[app, queue, RunStatus.QUEUED],
            running=live[app, queue, RunStatus.RUNNING],
            waiting=live[app, queue, RunStatus.WAITING],
            scheduled=live[app, queue, RunStatus.SCHEDULED],
            workers=workers[app, queue],
            paused_ms=paused.get((app, queue)),
        )
        for app, queue in sorted(known)
        if app_id in (None, app)
    ]


async def check_queue(store: Store, app_id: str, queue: str) -> None:
    """Raise ConfigError, which suggests the nearest id, for an unknown queue."""
    known = [each.id for each in await find_queues(store)]
    queue_id = f"{app_id}/{queue}"
    if queue_id not in known:
        raise ConfigError(
            f"there is no queue {queue_id!r}{did_you_mean(queue_id, known)}: no function names it, no worker serves it, and it has "
            "no live run"
        )
