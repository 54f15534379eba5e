"""Operations on the deployment as a whole: overview, queues, workers, dead letters."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from dataclasses import dataclass
from typing import Any, TypedDict, cast

from taskflow.run import RunStatus
from taskflow.runs.queues import find_queues
from taskflow.web.catalogue.fields import wanted
from taskflow.web.catalogue.operation import Desk, Scope, operation, unknown_is
from taskflow.web.catalogue.problems import Kind

LIVE = [status.value for status in RunStatus if not status.is_final]


class OverviewJson(TypedDict):
    """The deployment now. `live` has the numbers of live runs by status; times are ms since the epoch."""

    now_ms: int
    live: dict[str, int]
    apps: dict[str, str]
    workers: int
    beat: str | None
    paused_functions: dict[str, int]
    paused_queues: dict[str, int]


class QueueJson(TypedDict):
    """A queue with the numbers of its live runs, and of the workers that serve it."""

    id: str
    app: str
    name: str
    queued: int
    running: int
    waiting: int
    scheduled: int
    workers: int
    paused_ms: int | None


class QueueListJson(TypedDict):
    """Queues, by id."""

    queues: list[QueueJson]


class QueuePausedJson(TypedDict):
    """The queue that is paused."""

    queue: str


class QueueResumedJson(TypedDict):
    """The queue that goes on."""

    queue: str
    was_paused: bool


class WorkerJson(TypedDict):
    """A worker: when it was heard last (ms since the epoch), and for which app it serves which queues, if it says so."""

    name: str
    heard_ms: int
    app: str | None
    queues: list[str]


class WorkerListJson(TypedDict):
    """Workers, by name."""

    workers: list[WorkerJson]


class DeadLetterJson(TypedDict):
    """A message of the broker that could not be read. If its bytes are no UTF-8, `body` is null, and `body_base64` has them."""

    id: str
    at_ms: int
    reason: str
    body: str | None
    body_base64: str | None


class DeadLetterListJson(TypedDict):
    """Dead letters, newest first."""

    dead_letters: list[DeadLetterJson]


@dataclass(frozen=True, slots=True)
class Nothing:
    """A request without fields."""


@dataclass(frozen=True, slots=True)
class ListQueues:
    app: str | None = wanted("Only queues of this app.", default=None)


@dataclass(frozen=True, slots=True)
class OneQueue:
    app: str = wanted("The id of the app.")
    queue: str = wanted("The name of the queue.")


@dataclass(frozen=True, slots=True)
class ListDeadLetters:
    limit: int = wanted("At most so many.", default=20, minimum=1, maximum=1_000)


@operation("overview", "GET", "/overview", Scope.READ)
async def overview(desk: Desk, request: Nothing) -> OverviewJson:
    """Show the deployment at a glance: live runs, apps, workers, beat, what is paused."""
    async with desk.store() as (store, moment):
        counts, apps, workers, beat, functions, queues = await asyncio.gather(
            store.history.live_counts(), store.registry.apps(), store.history.heartbeats(),
            store.history.leader(moment.now_ms), store.steering.paused(), store.steering.paused_queues(),
        )  # fmt: skip
    live = Counter(dict.fromkeys(LIVE, 0))
    for each in counts:
        live[each.status] += each.runs
    return {
        "now_ms": moment.now_ms, "live": dict(live), "apps": apps, "workers": len(workers), "beat": beat,
        "paused_functions": functions,
        "paused_queues": {f"{app}/{queue}": since_ms for (app, queue), since_ms in queues.items()},
    }  # fmt: skip


@operation("queues.list", "GET", "/queues", Scope.READ)
async def list_queues(desk: Desk, request: ListQueues) -> QueueListJson:
    """List queues, with the numbers of their live runs."""
    async with desk.store() as (store, _):
        found = await find_queues(store, request.app)
    return {"queues": [cast(QueueJson, queue.to_json()) for queue in found]}


@operation("queues.pause", "POST", "/queues/{app}/{queue}/pause", Scope.OPERATE, Kind.QUEUE_NOT_FOUND)
async def pause_queue(desk: Desk, request: OneQueue) -> QueuePausedJson:
    """Let no run of a queue begin or go on until it is resumed. Events still make runs, which wait."""
    async with unknown_is(Kind.QUEUE_NOT_FOUND):
        await desk.control.pause_queue(request.app, request.queue)
    return {"queue": f"{request.app}/{request.queue}"}


@operation("queues.resume", "POST", "/queues/{app}/{queue}/resume", Scope.OPERATE)
async def resume_queue(desk: Desk, request: OneQueue) -> QueueResumedJson:
    """Let the runs of a paused queue begin and go on again."""
    was_paused = await desk.control.resume_queue(request.app, request.queue)
    return {"queue": f"{request.app}/{request.queue}", "was_paused": was_paused}


@operation("workers.list", "GET", "/workers", Scope.READ)
async def list_workers(desk: Desk, request: Nothing) -> WorkerListJson:
    """List the workers that live, with the queues that they serve."""
    async with desk.store() as (store, _):
        heard, serving = await asyncio.gather(store.history.heartbeats(), store.history.serving())
    rows: list[WorkerJson] = []
    for name, heard_ms in sorted(heard.items()):
        served = serving.get(name)
        app, queues = (served.app_id, list(served.queues)) if served else (None, [])
        rows.append({"name": name, "heard_ms": heard_ms, "app": app, "queues": queues})
    return {"workers": rows}


@operation("dead_letters.list", "GET", "/dead-letters", Scope.READ)
async def list_dead_letters(desk: Desk, request: ListDeadLetters) -> DeadLetterListJson:
    """List messages of the broker that could not be read, newest first, with the reason."""
    async with desk.store() as (store, _):
        rows = await store.history.dead_letters(limit=request.limit)
    return {"dead_letters": [letter_json(row) for row in rows]}


def letter_json(row: dict[str, Any]) -> DeadLetterJson:
    """A dead letter as a JSON object, as `taskflow dead-letters --json` shows it too."""
    body: bytes = row["body"]
    try:
        text: str | None = body.decode()
    except UnicodeDecodeError:
        text = None
    return {
        "id": row["id"], "at_ms": int(row["at"]), "reason": row["reason"].decode(), "body": text,
        "body_base64": base64.b64encode(body).decode() if text is None else None,
    }  # fmt: skip


OPERATIONS = (
    overview, list_queues, pause_queue, resume_queue, list_workers, list_dead_letters,
)  # fmt: skip
