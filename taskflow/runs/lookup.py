"""Reads runs from the store as views, with what surrounds them. Rules S10.2, S10.5.

It asks the store by typed methods, side by side where one answer does not need another: then they take one round trip.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from taskflow.errors import ConfigError, RunNotFound
from taskflow.flow.concurrency import Concurrency, ConcurrencyLevel
from taskflow.flow.keys import empty_keys
from taskflow.flow.lane import split_lane
from taskflow.flow.reasons import LaneState
from taskflow.flow.throttle import ThrottleLevel
from taskflow.function import FunctionSpec, read_spec
from taskflow.run import RunStatus, RunView, no_run
from taskflow.runs.counts import RunCounts, count_runs, sum_of
from taskflow.runs.pages import PAGE, RunPages
from taskflow.runs.reasons import ChildRun, Moment, Surroundings
from taskflow.runs.view import run_view
from taskflow.store.fields import number, text
from taskflow.store.history import Serving, StoredRun
from taskflow.store.operation import Operation
from taskflow.store.store import Store
from taskflow.values.ids import time_span
from taskflow.values.keywords import did_you_mean

# A run in a list is told without what may be large: its event and its output.
LISTED_FIELDS = (
    "function", "queue", "status", "cause", "version", "created", "started", "ended", "attempt", "error", "last_error",
    "due", "by", "score", "cancel", "crash_log", "parent", "lane", "skipped",
    "gathers", "batched", "batch_size", "behind",
)  # fmt: skip
RUN_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}-[a-z0-9]{6}")
PREFIX = re.compile(r"[0-9A-HJKMNP-TV-Z]{1,26}(?:-[a-z0-9]{0,6})?")
MIN_PREFIX = 6  # characters that must be given of an id: they stand for 17 minutes
PREFIX_WINDOW_MS = 3_600_000  # how long an event may have been on its way before its run was made
PREFIX_LOOKS = 10_000  # runs of each function
UNSETTLED = (
    RunStatus.QUEUED,
    RunStatus.RUNNING,
    RunStatus.WAITING,
)  # why they don't execute hangs on what surrounds them


async def find_run(store: Store, run_id: str, moment: Moment) -> RunView:
    """The view of one run. Raises RunNotFound."""
    stored = await store.history.run(run_id)
    if stored is None:
        raise RunNotFound(no_run(run_id))
    view, spec = await asyncio.gather(
        view_of(store, stored, moment), spec_in(store, text(stored.fields, "function"))
    )
    return replace(view, empty_keys=tuple(empty_keys(spec.flow.keys, view.event))) if spec else view


async def spec_in(store: Store, function: str) -> FunctionSpec | None:
    """What a worker has registered of a function."""
    return spec_of(await store.registry.manifest(function))


async def view_of(store: Store, stored: StoredRun, moment: Moment) -> RunView:
    around = Surroundings()
    if text(stored.fields, "status") in UNSETTLED:
        around = await surroundings(store, stored)
    return run_view(stored.run_id, stored.fields, stored.steps, moment=moment, around=around)


async def surroundings(store: Store, stored: StoredRun) -> Surroundings:
    """What the store knows beside the run; one round trip, or two when a limit holds it."""
    function, lane, queue = (text(stored.fields, name) for name in ("function", "lane", "queue"))
    history = store.history
    ahead, workers, serving, (paused_ms, queue_paused_ms), manifest, children = await asyncio.gather(
        history.ahead_of(function, queue, lane, stored.run_id),
        history.heartbeats(),
        history.serving(),
        store.steering.held_since(function, queue),
        store.registry.manifest(function),
        children_of(store, stored),
    )
    spec = spec_of(manifest)
    return Surroundings(
        retries=spec.retries.attempts if spec else None,
        ahead=ahead,
        paused_ms=paused_ms,
        queue_paused_ms=queue_paused_ms,
        lane=await lane_state(store, spec, lane, ahead) if spec and lane else None,
        workers=workers,
        is_served=is_served(function, queue, workers, serving),
        children=children,
    )


def is_served(
    function: str, queue: str, workers: Mapping[str, int], serving: Mapping[str, Serving]
) -> bool | None:
    """Whether a worker serves the queue. None: it can't be known, as not all of them tell what they serve."""
    app_id = function.partition("/")[0]
    if any(each.app_id == app_id and queue in each.queues for each in serving.values()):
        return True
    return False if workers and all(worker in serving for worker in workers) else None


async def lane_state(store: Store, spec: FunctionSpec, lane: str, ahead: int | None) -> LaneState:
    """What limits a queued run, as it is now."""
    limit_ids, throttle_id = split_lane(lane)
    levels: list[ConcurrencyLevel | ThrottleLevel] = []
    if spec.flow.concurrency is not None:
        held = await store.history.places_taken(limit_ids)
        levels += map(Concurrency.level, spec.flow.concurrency.limits, limit_ids, held)
    if spec.flow.throttle is not None and throttle_id is not None:
        levels.append(
            spec.flow.throttle.level(throttle_id, await store.history.throttle_full_us(throttle_id))
        )
    return LaneState(ahead, levels)


def spec_of(manifest: bytes | None) -> FunctionSpec | None:
    if manifest is None:
        return None
    try:
        return read_spec(manifest)
    except ConfigError:  # of another version of taskflow
        return None


async def children_of(store: Store, stored: StoredRun) -> dict[str, ChildRun]:
    """The runs that steps of this one have invoked and wait for."""
    ops = [Operation.unpack(packed) for packed in stored.steps.values()]
    run_ids = [op.child for op in ops if op.child and op.is_pending]
    rows = await store.history.many(run_ids, ("function", "status"))
    return {
        run_id: ChildRun(text(fields, "function"), text(fields, "status"))
        for run_id, fields in zip(run_ids, rows, strict=True)
        if fields
    }


@dataclass(frozen=True, slots=True)
class FoundRuns:
    """Runs, newest first."""

    runs: list[RunView]
    has_more: bool
    total: int | None  # how many there are in all; None where counting them would mean to read them
    counts: RunCounts | None  # by status; None when only some of the time was asked for


async def recent_runs(
    store: Store,
    functions: Sequence[str],
    *,
    limit: int,
    moment: Moment,
    statuses: Collection[str] = (),
    since_ms: int | None = None,
) -> FoundRuns:
    """The newest runs of these functions; with `statuses`, as far back as it takes to find `limit` of them."""
    pages = RunPages(store, functions, since_ms=since_ms, statuses=statuses)
    found: list[StoredRun] = []
    while len(found) <= limit:
        # Without a status to look for, what comes next is all wanted.
        run_ids = await pages.next(PAGE if statuses else min(PAGE, limit + 1 - len(found)))
        if not run_ids:
            break
        rows = await store.history.many(run_ids, LISTED_FIELDS)
        found += [
            StoredRun(run_id, fields, {})
            for run_id, fields in zip(run_ids, rows, strict=True)
            if fields and (not statuses or text(fields, "status") in statuses)
        ]
    views: list[RunView] = []
    for first in range(0, min(limit, len(found)), PAGE):
        part = found[first : min(first + PAGE, limit)]
        views += await asyncio.gather(*[listed_view(store, stored, moment) for stored in part])
    has_more = len(found) > limit
    if since_ms is None:
        counts = sum_of((await count_runs(store, functions)).values())
        return FoundRuns(views, has_more, counts.of(statuses), counts)
    made = [] if statuses else [store.history.count_runs(each, since_ms=since_ms) for each in functions]
    return FoundRuns(views, has_more, None if statuses else sum(await asyncio.gather(*made)), None)


async def check_known(store: Store, function_id: str) -> None:
    """Raise ConfigError, which says what may be meant, for a function that was never registered nor invoked."""
    known = await store.registry.known_functions()
    if function_id not in known:
        raise ConfigError(f"there is no function {function_id!r}{did_you_mean(function_id, known)}")


async def whole_run_id(store: Store, given: str) -> str:
    """The id of the one run whose id begins so; what is a whole id is given back unseen. Raises RunNotFound.

    Runs are looked for that were made within an hour of the time in their ids: for one whose event was on its way for longer it
    takes the whole id.
    """
    head, dash, tail = given.partition("-")
    prefix = head.upper() + dash + tail
    if RUN_ID.fullmatch(prefix):
        return prefix
    if len(prefix) < MIN_PREFIX or not PREFIX.fullmatch(prefix):
        raise RunNotFound(no_run(given))
    first_ms, last_ms = time_span(prefix)
    pages = [
        store.history.runs_between(function_id, first_ms, last_ms + PREFIX_WINDOW_MS, limit=PREFIX_LOOKS)
        for function_id in await store.registry.known_functions()
    ]
    found = [run_id for page in await asyncio.gather(*pages) for run_id in page if run_id.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise RunNotFound(no_run(given))
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    raise RunNotFound(f"{given!r} begins the ids of {', '.join(found[:3])}{more}: give more of the id")


async def listed_view(store: Store, stored: StoredRun, moment: Moment) -> RunView:
    """The view of a run in a list: its steps are read only when they tell why it waits."""
    is_waiting = text(stored.fields, "status") == RunStatus.WAITING and number(stored.fields, "due") is None
    if is_waiting:
        stored = await store.history.run(stored.run_id) or stored
    return await view_of(store, stored, moment)
