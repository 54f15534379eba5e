"""The queues of apps: what waits and executes there, who serves them, which are paused. Rules S7.2, S10.4."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from taskflow.errors import ConfigError
from taskflow.run import RunStatus
from taskflow.runs.functions import find_registered
from taskflow.store.store import Store
from taskflow.values.keywords import did_you_mean


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue, and how many of its runs are live, by status; `workers` is how many serve it, as far as they tell."""

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
        """ "app/queue" """
        return f"{self.app}/{self.name}"

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, **asdict(self)}


async def find_queues(store: Store, app_id: str | None = None) -> list[QueueView]:
    """The queues of all apps, or of one, by id: those that functions name, that workers serve, and where runs are.

    It reads counts that the store keeps, so it takes no longer when there are more runs.
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
    """Raise ConfigError, which says what may be meant, for a queue that nothing knows."""
    known = [each.id for each in await find_queues(store)]
    queue_id = f"{app_id}/{queue}"
    if queue_id not in known:
        raise ConfigError(
            f"there is no queue {queue_id!r}{did_you_mean(queue_id, known)}: no function names it, no worker serves it, and it has "
            "no live run"
        )
