"""Reads runs from the store as views, with what surrounds them. Rules S10.2, S10.5."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import orjson

from taskflow.errors import ConfigError, RunNotFound
from taskflow.flow.reasons import LaneState, LimitLevel, key_of_limit, split_lane
from taskflow.function import FunctionSpec
from taskflow.runs.reasons import ChildRun, Moment, Surroundings
from taskflow.runs.view import RunView, number, run_view, text
from taskflow.store.history import StoredRun
from taskflow.store.keys import SEPARATOR
from taskflow.store.operation import Operation
from taskflow.store.store import Store

# A run in a list is told without what may be large: its event and its output.
LISTED_FIELDS = (
    "function", "queue", "status", "cause", "version", "created", "started", "ended", "attempt", "error", "last_error",
    "due", "by", "score", "cancel", "crash_log", "parent", "lane", "skipped",
    "gathers", "batched", "batch_size", "behind",
)  # fmt: skip
BATCH = 100  # runs that are looked at in one round trip


async def find_run(store: Store, run_id: str, moment: Moment) -> RunView:
    """The view of one run. Raises RunNotFound."""
    stored = await store.history.run(run_id)
    if stored is None:
        raise RunNotFound(
            f"there is no run {run_id}: check the id; finished runs are removed after the retention"
        )
    return await view_of(store, stored, moment)


async def view_of(store: Store, stored: StoredRun, moment: Moment) -> RunView:
    around = Surroundings()
    if text(stored.fields, "status") in ("queued", "running", "waiting"):
        around = await surroundings(store, stored)
    return run_view(stored.run_id, stored.fields, stored.steps, moment=moment, around=around)


async def surroundings(store: Store, stored: StoredRun) -> Surroundings:
    """What the store knows beside the run; one round trip, or two when it waits for runs that it invoked."""
    function = text(stored.fields, "function")
    lane = text(stored.fields, "lane")
    ready = store.keys.lane(function, lane) if lane else store.keys.ready(function)
    rank = store.client.call("ZRANK", ready, stored.run_id)
    heartbeats = store.client.call("ZRANGE", store.keys.workers, 0, -1, "WITHSCORES")
    serving = store.client.call("HGETALL", store.keys.serving)
    paused_ms = store.client.call("HGET", store.keys.paused, function)
    manifest = await store.registry.manifest(function)
    flat = await heartbeats
    workers = {flat[i].decode(): int(float(flat[i + 1])) for i in range(0, len(flat), 2)}
    spec, ahead = spec_of(manifest), await rank
    return Surroundings(
        retries=spec.retries.attempts if spec else None,
        ahead=ahead,
        paused_ms=None if (since_ms := await paused_ms) is None else int(since_ms),
        lane=await lane_state(store, spec, lane, ahead) if spec and lane else None,
        workers=workers,
        is_served=is_served(function, text(stored.fields, "queue"), workers, await serving),
        children=await children_of(store, stored),
    )


def is_served(function: str, queue: str, workers: Collection[str], serving: Sequence[bytes]) -> bool | None:
    """Whether a worker serves the queue; `serving` is a flat list of workers and what each serves. None: not all tell."""
    app_id = function.partition("/")[0]
    told = {
        worker.decode(): what.decode().split(SEPARATOR)
        for worker, what in zip(serving[::2], serving[1::2], strict=True)
    }
    if any(app == app_id and queue in queues for app, *queues in told.values()):
        return True
    return False if workers and all(worker in told for worker in workers) else None


async def lane_state(store: Store, spec: FunctionSpec, lane: str, ahead: int | None) -> LaneState:
    """What limits a queued run, as it is now."""
    limit_ids, throttle_id = split_lane(lane)
    counts = [store.client.call("SCARD", store.keys.leases(limit_id)) for limit_id in limit_ids]
    levels = [
        LimitLevel(key_of_limit(limit_id), await count, limit.limit)
        for limit_id, count, limit in zip(limit_ids, counts, spec.flow.concurrency, strict=False)
    ]
    throttle = spec.flow.throttle
    if throttle_id is None or throttle is None:
        return LaneState(ahead, levels)
    due_us = int(await store.client.call("GET", store.keys.throttle(throttle_id)) or 0)
    opens_ms = -(-(due_us - throttle.interval_us * (throttle.burst - 1)) // 1_000)
    return LaneState(ahead, levels, throttle_id.partition(":")[2], opens_ms)


def spec_of(manifest: bytes | None) -> FunctionSpec | None:
    if manifest is None:
        return None
    try:
        return FunctionSpec.from_manifest(orjson.loads(manifest))
    except ConfigError:  # of another version of taskflow
        return None


async def children_of(store: Store, stored: StoredRun) -> dict[str, ChildRun]:
    ops = [Operation.unpack(packed) for packed in stored.steps.values()]
    run_ids = [op.child for op in ops if op.child and op.is_pending]
    futures = [store.client.call("HMGET", store.keys.run(run_id), "function", "status") for run_id in run_ids]
    children = {}
    for run_id, future in zip(run_ids, futures, strict=True):
        function, status = await future
        if function is not None:
            children[run_id] = ChildRun(function.decode(), (status or b"").decode())
    return children


async def registered_functions(store: Store) -> list[str]:
    """The full ids of all functions that workers have registered."""
    ids = []
    for app_id in await store.registry.apps():
        for manifest in await store.registry.manifests(app_id):
            slug = orjson.loads(manifest).get("slug")
            ids.append(f"{app_id}/{slug}")
    return ids


async def recent_runs(
    store: Store,
    functions: Sequence[str],
    *,
    limit: int,
    moment: Moment,
    status: str | None = None,
    since_ms: int | None = None,
) -> list[RunView]:
    """The newest runs of these functions, newest first; with `status`, as far back as it takes to find `limit`."""
    history = [FunctionHistory(store, function, since_ms) for function in functions]
    found: list[StoredRun] = []
    while len(found) < limit:
        # Without a status to look for, what comes next is all wanted.
        run_ids = await newest(history, BATCH if status else min(BATCH, limit - len(found)))
        if not run_ids:
            break
        rows = [store.history.fields(run_id, *LISTED_FIELDS) for run_id in run_ids]
        for run_id, row in zip(run_ids, rows, strict=True):
            values = await row
            fields = {
                name: value for name, value in zip(LISTED_FIELDS, values, strict=True) if value is not None
            }
            if fields and status in (None, text(fields, "status")):
                found.append(StoredRun(run_id, fields, {}))
    return [await listed_view(store, stored, moment) for stored in found[:limit]]


async def listed_view(store: Store, stored: StoredRun, moment: Moment) -> RunView:
    """The view of a run in a list: its steps are read only when they tell why it waits."""
    is_waiting = text(stored.fields, "status") == "waiting" and number(stored.fields, "due") is None
    if is_waiting:
        whole = await store.history.run(stored.run_id)
        stored = whole or stored
    return await view_of(store, stored, moment)


@dataclass(slots=True)
class FunctionHistory:
    """The runs of one function, newest first, read page by page."""

    store: Store
    function: str
    since_ms: int | None
    # (run id, created ms) that were read and not taken
    head: deque[tuple[str, int]] = field(default_factory=deque)
    oldest_ms: int | None = None
    # run ids of `oldest_ms` that were read: a page may end among equals
    at_oldest: set[str] = field(default_factory=set)
    page: int = BATCH
    is_exhausted: bool = False

    async def fill(self) -> None:
        """Make sure that `head` holds the next run, if there is one."""
        while not self.head and not self.is_exhausted:
            before_ms = None if self.oldest_ms is None else self.oldest_ms + 1
            rows = await self.store.history.recent_runs(
                self.function, limit=self.page, before_ms=before_ms, since_ms=self.since_ms
            )
            new = [row for row in rows if row[0] not in self.at_oldest]
            self.is_exhausted = len(rows) < self.page
            if not new:
                self.page *= 2  # a page full of runs of one millisecond that were all read before
                continue
            if new[-1][1] != self.oldest_ms:
                self.oldest_ms, self.at_oldest = new[-1][1], set()
            self.at_oldest |= {run_id for run_id, at_ms in new if at_ms == self.oldest_ms}
            self.head.extend(new)


async def newest(history: Sequence[FunctionHistory], count: int) -> list[str]:
    """Take the next `count` runs over all functions, newest first."""
    taken: list[str] = []
    while len(taken) < count:
        await asyncio.gather(*[one.fill() for one in history if not one.head and not one.is_exhausted])
        filled = [one for one in history if one.head]
        if not filled:
            break
        taken.append(max(filled, key=lambda one: one.head[0][1]).head.popleft()[0])
    return taken
