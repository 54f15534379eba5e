"""Operations on bulk operations: cancel or rerun all runs that match, see how far that is, stop it. Rule S14.6."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypedDict, cast

from taskflow.run import RunStatus
from taskflow.runs.bulk import BulkAction, BulkRequest, BulkView, count_matching
from taskflow.runs.selection import parse_past_ms
from taskflow.values.durations import parse_duration_ms
from taskflow.values.ids import new_ulid
from taskflow.web.catalogue.fields import wanted
from taskflow.web.catalogue.operation import Desk, Scope, operation, unknown_is
from taskflow.web.catalogue.problems import Kind, Problem
from taskflow.web.catalogue.runs import MAX_PAGE

MOST_OFF = 0.1  # how far the number of runs may be from what was expected


class BulkJson(TypedDict):
    """A bulk operation. `total` runs matched when it was asked for, it has looked at `looked`, of which `done` are, and `failed`.

    `functions` is null for all; `problems` are the first reasons why runs failed. Times are ms since the epoch.
    """

    id: str
    action: BulkAction
    functions: list[str] | None
    statuses: list[str]
    since_ms: int | None
    until_ms: int
    if_exp: str | None
    over_ms: int
    reason: str
    who: str
    created_ms: int
    total: int
    status: str
    looked: int
    done: int
    failed: int
    problems: list[str]
    ended_ms: int | None


class BulkListJson(TypedDict):
    """A page of bulk operations, newest first. `next` is the cursor of the next page; null on the last one."""

    bulk: list[BulkJson]
    next: str | None


class MatchingJson(TypedDict):
    """How many runs match now."""

    total: int


class StoppedJson(TypedDict):
    """The operation, and whether it was stopped; if not, it had ended before."""

    id: str
    was_running: bool


@dataclass(frozen=True, slots=True)
class Matching:
    action: BulkAction = wanted("What to do with the runs.")
    function: str | None = wanted("Only runs of this function: app/function.", default=None)
    app: str | None = wanted("Only runs of this app.", default=None)
    status: tuple[RunStatus, ...] = wanted(
        "Only runs of these statuses. By default: to cancel, all that have not ended; to rerun, those that failed, were cancelled "
        "or were skipped.",
        default=(),
    )
    since: str | None = wanted("Only runs that were made since: 2d, or 2030-01-31T12:00:00Z.", default=None)
    until: str | None = wanted("Only runs that were made until then.", default=None)
    if_exp: str | None = wanted("CEL over the run's event.", default=None, max_chars=2_048)


@dataclass(frozen=True, slots=True)
class CreateBulk(Matching):
    over: str | None = wanted("Over how long the starts of reruns are spread.", default=None)
    expect: int | None = wanted(
        "The number of runs that is expected; nothing is done if it is off by more than a tenth.",
        default=None,
        minimum=0,
        maximum=10**12,
    )
    reason: str = wanted("Why; it is kept with cancelled runs.", default="cancelled in bulk", max_chars=500)


@dataclass(frozen=True, slots=True)
class ListBulk:
    limit: int = wanted("At most so many.", default=20, minimum=1, maximum=MAX_PAGE)
    cursor: str | None = wanted("Where to go on: `next` of the page before.", default=None, max_chars=40)


@dataclass(frozen=True, slots=True)
class OneBulk:
    bulk_id: str = wanted("The id of the bulk operation.", max_chars=40)


async def plan(desk: Desk, request: Matching, *, over_ms: int = 0, reason: str = "") -> BulkRequest:
    """The checked request. Raises Problem, ConfigError, InvalidDuration."""
    now_ms = desk.link.clock.now_ms()
    functions: list[str] | None = None
    if request.function is not None:
        functions = [request.function]
        async with unknown_is(Kind.FUNCTION_NOT_FOUND):
            await desk.control.check_function(request.function)
    elif request.app is not None:
        functions = await desk.control.functions(request.app)
    since, until = (
        None if text is None else parse_past_ms(text, now_ms=now_ms, what=name)
        for name, text in (("since", request.since), ("until", request.until))
    )
    return BulkRequest.plan(
        request.action, functions, statuses=[status.value for status in request.status], since_ms=since, until_ms=until,
        if_exp=request.if_exp, over_ms=over_ms, reason=reason, who=desk.who, now_ms=now_ms,
    )  # fmt: skip


@operation("bulk.count", "GET", "/bulk/matching", Scope.READ, Kind.FUNCTION_NOT_FOUND)
async def count_bulk(desk: Desk, request: Matching) -> MatchingJson:
    """Count the runs that a bulk operation would concern. With `if_exp` it reads the events of all these runs."""
    planned = await plan(desk, request)
    store = await desk.link.session().store()
    return {"total": await count_matching(store, planned)}


@operation("bulk.create", "POST", "/bulk", Scope.OPERATE, Kind.FUNCTION_NOT_FOUND, Kind.COUNT_DIFFERS)
async def create_bulk(desk: Desk, request: CreateBulk) -> BulkJson:
    """Cancel or rerun all runs that match and were made before now.

    Beat does it, a portion at a time; `bulk.get` shows how far it is. Runs that were rerun before are left out of a rerun, since
    that stands for them.
    """
    over_ms = 0 if request.over is None else parse_duration_ms(request.over, what="over")
    planned = await plan(desk, request, over_ms=over_ms, reason=request.reason)
    bulk_id = desk.uid or new_ulid(planned.created_ms)
    async with desk.store() as (store, _):
        known = await store.bulks.find(bulk_id)
    if known is not None:  # a request that is repeated
        return cast(BulkJson, BulkView.of(known).to_json())
    # Not within a deadline: with a condition it may have to read many runs.
    total = await count_matching(await desk.link.session().store(), planned)
    if request.expect is not None and abs(total - request.expect) > MOST_OFF * request.expect:
        raise Problem(
            Kind.COUNT_DIFFERS,
            f"{request.expect:,} runs were expected, but {total:,} match now",
            more={"total": total},
        )
    view = await desk.control.start_bulk(bulk_id, replace(planned, total=total))
    return cast(BulkJson, view.to_json())


@operation("bulk.list", "GET", "/bulk", Scope.READ)
async def list_bulk(desk: Desk, request: ListBulk) -> BulkListJson:
    """List bulk operations, newest first. The newest 1,000 are kept."""
    async with desk.store() as (store, _):
        found = await store.bulks.newest(limit=request.limit + 1, before=request.cursor)
    page = [cast(BulkJson, BulkView.of(each).to_json()) for each in found[: request.limit]]
    return {"bulk": page, "next": page[-1]["id"] if len(found) > request.limit else None}


@operation("bulk.get", "GET", "/bulk/{bulk_id}", Scope.READ, Kind.BULK_NOT_FOUND)
async def get_bulk(desk: Desk, request: OneBulk) -> BulkJson:
    """Show a bulk operation, and how far it is."""
    async with desk.store() as (store, _):
        found = await store.bulks.find(request.bulk_id)
    if found is None:
        raise no_bulk(request.bulk_id)
    return cast(BulkJson, BulkView.of(found).to_json())


@operation("bulk.stop", "DELETE", "/bulk/{bulk_id}", Scope.OPERATE, Kind.BULK_NOT_FOUND)
async def stop_bulk(desk: Desk, request: OneBulk) -> StoppedJson:
    """Stop a bulk operation. What it has done stays done."""
    async with desk.store() as (store, moment):
        was_running = await store.bulks.stop(request.bulk_id, now_ms=moment.now_ms)
    if was_running is None:
        raise no_bulk(request.bulk_id)
    return {"id": request.bulk_id, "was_running": was_running}


def no_bulk(bulk_id: str) -> Problem:
    return Problem(Kind.BULK_NOT_FOUND, f"there is no bulk operation {bulk_id!r:.60}")


OPERATIONS = (count_bulk, create_bulk, list_bulk, get_bulk, stop_bulk)
