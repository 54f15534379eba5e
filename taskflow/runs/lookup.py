"""Reads runs from the store as views, with the facts around them that explain why they wait. Rules S10.2, S10.5.

Calls that don't need each other's reply are made side by side, so that they take one round trip.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import replace

from taskflow.errors import ConfigError, RunNotFound
from taskflow.flow.concurrency import Concurrency, ConcurrencyLevel
from taskflow.flow.keys import empty_keys
from taskflow.flow.lane import split_lane
from taskflow.flow.reasons import LaneState
from taskflow.flow.throttle import ThrottleLevel
from taskflow.function import FunctionSpec, read_spec
from taskflow.run import RunStatus, RunView, no_run
from taskflow.runs.counts import RunCounts, count_all
from taskflow.runs.pages import PAGE, RunPages
from taskflow.runs.reasons import NOTHING_KNOWN, ChildRun, Moment, Surroundings
from taskflow.runs.view import run_view
from taskflow.store.fields import number, text
from taskflow.store.history import Serving, StoredRun
from taskflow.store.listing import Place
from taskflow.store.operation import Operation
from taskflow.store.store import Store
from taskflow.values.ids import time_span
from taskflow.values.keywords import did_you_mean
from taskflow.values.record import record

# The fields of a run in a list: all except event and output, which may be large.
LISTED_FIELDS = (
    "function", "queue", "status", "cause", "version", "created", "started", "ended", "attempt", "error", "last_error",
    "due", "by", "score", "cancel", "crash_log", "parent", "lane", "skipped",
    "gathers", "batched", "batch_size", "behind",
)  # fmt: skip
RUN_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}-[a-z0-9]{6}")
PREFIX = re.compile(r"[0-9A-HJKMNP-TV-Z]{1,26}(?:-[a-z0-9]{0,6})?")
MIN_PREFIX = 6  # at least so many characters of an id must be given: they cover 17 minutes
PREFIX_WINDOW_MS = 3_600_000  # how long an event may have been on its way before its run was made
PREFIX_LOOKS = 10_000  # how many runs of each function are looked at
UNSETTLED = (
    RunStatus.QUEUED,
    RunStatus.RUNNING,
    RunStatus.WAITING,
)  # statuses in which facts around the run explain why it does not execute


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
    """The spec of a function as a worker has registered it, or None."""
    return spec_of(await store.registry.manifest(function))


@record
class Facts:
    """The facts that explain why runs wait, as far as the runs of a list share them."""

    workers: Mapping[str, int]  # worker id -> its last heartbeat (ms since epoch)
    serving: Mapping[str, Serving]
    paused: Mapping[str, int]  # function -> since when (ms) it is paused
    paused_queues: Mapping[tuple[str, str], int]
    specs: Mapping[str, FunctionSpec | None]


async def shared_facts(store: Store, functions: Collection[str]) -> Facts:
    """The facts for runs of these functions; one round trip."""
    workers, serving, paused, queues, manifests = await asyncio.gather(
        store.history.heartbeats(), store.history.serving(), store.steering.paused(), store.steering.paused_queues(),
        store.registry.manifests_of(functions),
    )  # fmt: skip
    return Facts(
        workers, serving, paused, queues, {name: spec_of(manifest) for name, manifest in manifests.items()}
    )


async def view_of(store: Store, stored: StoredRun, moment: Moment) -> RunView:
    (view,) = await views_of(store, [stored], moment)
    return view


async def views_of(store: Store, runs: Sequence[StoredRun], moment: Moment) -> list[RunView]:
    """The views of these runs. What explains why they wait is read once for all of them, side by side."""
    unsettled = [run for run in runs if text(run.fields, "status") in UNSETTLED]
    if not unsettled:
        return [
            run_view(run.run_id, run.fields, run.steps, codecs=store.codecs, moment=moment) for run in runs
        ]
    facts = asyncio.ensure_future(shared_facts(store, {text(run.fields, "function") for run in unsettled}))
    explained = asyncio.gather(*[explain(store, run, facts) for run in unsettled])
    await asyncio.gather(facts, explained)
    around = {run.run_id: (run, each) for run, each in explained.result()}
    whole = [around.get(run.run_id, (run, NOTHING_KNOWN)) for run in runs]
    return [
        run_view(run.run_id, run.fields, run.steps, codecs=store.codecs, moment=moment, around=each)
        for run, each in whole
    ]


async def explain(
    store: Store, stored: StoredRun, shared: Awaitable[Facts]
) -> tuple[StoredRun, Surroundings]:
    """A run with the steps and the facts that explain why it waits. A run of a list comes without its steps."""
    is_waiting = text(stored.fields, "status") == RunStatus.WAITING and number(stored.fields, "due") is None
    if is_waiting and not stored.steps:
        stored = replace(stored, steps=await store.history.steps(stored.run_id))
    return stored, await surroundings(store, stored, shared)


async def surroundings(store: Store, stored: StoredRun, shared: Awaitable[Facts]) -> Surroundings:
    """The facts around a run that explain why it waits; one round trip, or two if a limit holds the run up."""
    function, lane, queue, status = (
        text(stored.fields, name) for name in ("function", "lane", "queue", "status")
    )
    is_queued = status == RunStatus.QUEUED
    asked = store.history.ahead_of(function, queue, lane, stored.run_id) if is_queued else no_answer()
    ahead, children, facts = await asyncio.gather(asked, children_of(store, stored), shared)
    spec = facts.specs.get(function)
    return Surroundings(
        retries=spec.retries.attempts if spec else None,
        ahead=ahead,
        paused_ms=facts.paused.get(function),
        queue_paused_ms=facts.paused_queues.get((function.partition("/")[0], queue)),
        lane=await lane_state(store, spec, lane, ahead) if spec and lane and is_queued else None,
        workers=facts.workers,
        is_served=is_served(function, queue, facts.workers, facts.serving),
        children=children,
    )


async def no_answer() -> None:
    """In place of a question that need not be asked."""


def is_served(
    function: str, queue: str, workers: Mapping[str, int], serving: Mapping[str, Serving]
) -> bool | None:
    """Whether a worker serves the queue; None if that is unknown, since not all workers say what they serve."""
    app_id = function.partition("/")[0]
    if any(each.app_id == app_id and queue in each.queues for each in serving.values()):
        return True
    return False if workers and all(worker in serving for worker in workers) else None


async def lane_state(store: Store, spec: FunctionSpec, lane: str, ahead: int | None) -> LaneState:
    """The limits of a queued run in their present state."""
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
    except ConfigError:  # another version of taskflow wrote it
        return None


async def children_of(store: Store, stored: StoredRun) -> dict[str, ChildRun]:
    """The runs for which steps of this run wait, since they invoked them; by id."""
    ops = [Operation.unpack(packed) for packed in stored.steps.values()]
    run_ids = [op.child for op in ops if op.child and op.is_pending]
    rows = await store.history.many(run_ids, ("function", "status"))
    return {
        run_id: ChildRun(text(fields, "function"), text(fields, "status"))
        for run_id, fields in zip(run_ids, rows, strict=True)
        if fields
    }


@record
class FoundRuns:
    """A list of runs, newest first."""

    runs: list[RunView]
    next: Place | None  # the place after which the list goes on; None at its end
    total: int | None  # how many runs there are in all; None if nothing was counted
    counts: (
        RunCounts | None
    )  # their numbers by status; None if not counted, or if only a stretch of time was asked for


async def recent_runs(
    store: Store,
    functions: Sequence[str] | None,
    *,
    limit: int,
    moment: Moment,
    statuses: Collection[str] = (),
    since_ms: int | None = None,
    after: Place | None = None,
) -> FoundRuns:
    """The newest runs of these functions, or of all, and how many there are. It reads on until it has found `limit` runs."""
    pages = RunPages(store, functions, since_ms=since_ms, statuses=statuses, after=after)
    views: list[RunView] = []
    while len(views) < limit and not pages.is_over:
        views += await read_page(pages, min(PAGE, limit - len(views)), moment)
    if since_ms is None:
        counts = await count_all(store, functions)
        return FoundRuns(views, pages.place, counts.of(statuses), counts)
    total = None if statuses else (await store.listing.count(functions, since_ms=since_ms))[""]
    return FoundRuns(views, pages.place, total, None)


async def page_of_runs(
    store: Store,
    functions: Sequence[str] | None,
    *,
    limit: int,
    moment: Moment,
    statuses: Collection[str] = (),
    since_ms: int | None = None,
    after: Place | None = None,
) -> FoundRuns:
    """A page of the list of these functions' runs, or of all runs, in three round trips.

    Of runs of some statuses it may have less than `limit`, or none, and yet a `next`: it has looked at some thousand runs then.
    """
    pages = RunPages(store, functions, since_ms=since_ms, statuses=statuses, after=after)
    views = await read_page(pages, limit, moment)
    return FoundRuns(views, pages.place, None, None)


async def read_page(pages: RunPages, limit: int, moment: Moment) -> list[RunView]:
    """The views of the next runs, `limit` at most."""
    run_ids = await pages.look(limit)
    rows = await pages.store.history.many(run_ids, LISTED_FIELDS)
    found = [
        StoredRun(run_id, fields, {})
        for run_id, fields in zip(run_ids, rows, strict=True)
        if fields and (not pages.statuses or text(fields, "status") in pages.statuses)
    ]
    return await views_of(pages.store, found, moment)


async def check_known(store: Store, function_id: str) -> None:
    """Raise ConfigError, which suggests the nearest id, for a function that was never registered or invoked."""
    known = await store.registry.known_functions()
    if function_id not in known:
        raise ConfigError(f"there is no function {function_id!r}{did_you_mean(function_id, known)}")


async def whole_run_id(store: Store, given: str) -> str:
    """The id of the only run whose id begins with `given`; a whole id is returned unchecked. Raises RunNotFound.

    It finds runs that were made within an hour of the time in their ids. For a run whose event was on its way for longer, give the
    whole id.
    """
    head, dash, tail = given.partition("-")
    prefix = head.upper() + dash + tail
    if RUN_ID.fullmatch(prefix):
        return prefix
    if not PREFIX.fullmatch(prefix):
        raise RunNotFound(no_run(given))
    if len(prefix) < MIN_PREFIX:
        raise RunNotFound(
            f"{given!r} may begin the ids of many runs: give at least {MIN_PREFIX} characters of the id"
        )
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
