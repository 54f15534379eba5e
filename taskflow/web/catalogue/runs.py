"""Operations on runs: list, get, steps, cancel, rerun."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict, cast

from taskflow.run import RunStatus
from taskflow.runs.edits import Edits
from taskflow.runs.lookup import check_known, find_run, page_of_runs
from taskflow.store.listing import Place
from taskflow.types import UNCHANGED, JsonObject
from taskflow.values.durations import parse_duration_ms
from taskflow.web.catalogue.fields import wanted
from taskflow.web.catalogue.operation import Desk, Scope, operation, unknown_is
from taskflow.web.catalogue.problems import Kind, Problem

MAX_WAIT = "60s"
MAX_WAIT_MS = 60_000
MAX_PAGE = 100
RUN_ID_CHARS = 64
WAIT_HELP = (
    f"How long to wait for the end, at most {MAX_WAIT}: 10s, 500ms. Without it the answer comes at once."
)


class ShortErrorJson(TypedDict):
    """An error without its traceback."""

    name: str
    message: str


class ErrorJson(ShortErrorJson):
    """An error: the name of its class, its text, and its traceback."""

    stack: str


class AttemptJson(TypedDict):
    """A failed attempt. Times are ms since the epoch."""

    started_ms: int
    ended_ms: int
    worker: str
    error: ErrorJson


class StepJson(TypedDict):
    """A step of a run. Times are ms since the epoch."""

    key: str
    kind: str
    state: str
    why: str | None
    started_ms: int | None
    ended_ms: int | None
    due_ms: int | None
    attempts: int
    failed_attempts: list[AttemptJson]
    worker: str | None
    child: str | None
    is_kept: bool
    input: Any
    output: Any
    error: ErrorJson | None


class RunFactsJson(TypedDict):
    """What a list tells of a run, and its page too."""

    run_id: str
    function: str
    status: RunStatus
    why: str | None
    queue: str
    cause: str
    version: str
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    duration_ms: int | None
    due_ms: int | None
    attempt: int
    worker: str | None


class RunInListJson(RunFactsJson):
    """A run in a list. Times are ms since the epoch; `why` says why it does not execute, or why it ended so."""

    error: ShortErrorJson | None


class RunJson(RunFactsJson):
    """A run with its steps, its event and its outcome. Times are ms since the epoch."""

    event: dict[str, Any]
    batched: int
    empty_keys: list[str]
    progress: dict[str, Any] | None
    rerun_of: str | None
    rerun_by: str | None
    replay_id: str | None
    parent: str | None
    parent_step: str | None
    crashes: list[str]
    steps: list[StepJson]
    output: Any
    error: ErrorJson | None
    last_error: ErrorJson | None
    failed_attempts: list[AttemptJson]


class RunListJson(TypedDict):
    """A page of runs, newest first. `next` is the cursor of the next page; null on the last one."""

    runs: list[RunInListJson]
    next: str | None


class StepListJson(TypedDict):
    """The steps of a run, in the order of their calls."""

    run_id: str
    steps: list[StepJson]


class CancelledJson(TypedDict):
    """The outcome of cancelling a run: cancelled, cancelling (it ends after its present steps), or ended (before)."""

    run_id: str
    outcome: str


class RerunJson(TypedDict):
    """The run that was made."""

    run_id: str
    rerun_of: str


@dataclass(frozen=True, slots=True)
class ListRuns:
    function: str | None = wanted("Only runs of this function: app/function.", default=None)
    status: tuple[RunStatus, ...] = wanted("Only runs of these statuses.", default=())
    since: str | None = wanted("Only runs that were made in the last 1h30m, 2d, ...", default=None)
    limit: int = wanted("At most so many.", default=20, minimum=1, maximum=MAX_PAGE)
    cursor: str | None = wanted("Where to go on: `next` of the page before.", default=None, max_chars=100)


@dataclass(frozen=True, slots=True)
class GetRun:
    run_id: str = wanted("The id of the run.", max_chars=RUN_ID_CHARS)
    wait: str | None = wanted(WAIT_HELP, default=None, max_chars=32)


@dataclass(frozen=True, slots=True)
class GetSteps:
    run_id: str = wanted("The id of the run.", max_chars=RUN_ID_CHARS)


@dataclass(frozen=True, slots=True)
class CancelRun:
    run_id: str = wanted("The id of the run.", max_chars=RUN_ID_CHARS)
    reason: str = wanted("Why; it is kept with the run.", default="cancelled over the web API", max_chars=500)


@dataclass(frozen=True, slots=True)
class RerunRun:
    run_id: str = wanted("The id of a run that has ended.", max_chars=RUN_ID_CHARS)
    from_step: str | None = wanted("Don't execute again the steps that ended before this one.", default=None)
    data: JsonObject | None = wanted("Other data of its event.", default=None)
    output: Any = wanted("The outcome of from_step, which then is not executed either.", default=UNCHANGED)


@operation("runs.list", "GET", "/runs", Scope.READ, Kind.FUNCTION_NOT_FOUND)
async def list_runs(desk: Desk, request: ListRuns) -> RunListJson:
    """List runs, newest first.

    Event and output are left out; `runs.get` has them. A page may have fewer runs than `limit`, or none: only without `next` it is
    the last.
    """
    after = None if request.cursor is None else parse_cursor(request.cursor)
    since = None if request.since is None else parse_duration_ms(request.since, what="since")
    async with desk.store() as (store, moment):
        one = request.function
        found = await page_of_runs(
            store, None if one is None else [one], limit=request.limit, moment=moment, statuses=request.status, after=after,
            since_ms=None if since is None else moment.now_ms - since,
        )  # fmt: skip
        if one is not None and not found.runs:
            async with unknown_is(Kind.FUNCTION_NOT_FOUND):
                await check_known(store, one)
    rows = [cast(RunInListJson, run.summary_json(moment.now_ms)) for run in found.runs]
    return {"runs": rows, "next": cursor_of(found.next)}


def cursor_of(place: Place | None) -> str | None:
    return None if place is None else f"{place.created_ms}-{place.run_id}"


def parse_cursor(text: str) -> Place:
    ms, dash, run_id = text.partition("-")
    if not (dash and run_id and ms.isdecimal() and ms.isascii() and len(ms) < 16):
        raise Problem(Kind.INVALID_FIELD, f"cursor must be `next` of the page before, got {text!r:.80}")
    return Place(int(ms), run_id)


@operation("runs.get", "GET", "/runs/{run_id}", Scope.READ, Kind.RUN_NOT_FOUND)
async def get_run(desk: Desk, request: GetRun) -> RunJson:
    """Show a run with its steps, its event and its outcome; with `wait`, once it has ended or the time is over."""
    if request.wait is not None:
        await wait_for_end(desk, request.run_id, parse_wait_ms(request.wait))
    async with desk.store() as (store, moment):
        view = await find_run(store, request.run_id, moment)
    return cast(RunJson, view.to_json(moment.now_ms))


def parse_wait_ms(text: str) -> int:
    """How long to wait (ms); more than the longest wait means that. Raises InvalidDuration."""
    return min(parse_duration_ms(text, what="wait"), MAX_WAIT_MS)


async def wait_for_end(desk: Desk, run_id: str, wait_ms: int) -> bool:
    """Wait until the run has ended; whether it has. An unknown run counts as ended."""
    try:
        await desk.link.session().wait_until_done(run_id, wait_ms / 1000)
    except TimeoutError:
        return False
    return True


@operation("runs.steps", "GET", "/runs/{run_id}/steps", Scope.READ, Kind.RUN_NOT_FOUND)
async def get_steps(desk: Desk, request: GetSteps) -> StepListJson:
    """List the steps of a run, with what each got and gave."""
    async with desk.store() as (store, moment):
        view = await find_run(store, request.run_id, moment)
    steps = [cast(StepJson, step.to_json()) for step in view.steps.values()]
    return {"run_id": view.run_id, "steps": steps}


@operation("runs.cancel", "POST", "/runs/{run_id}/cancel", Scope.OPERATE, Kind.RUN_NOT_FOUND)
async def cancel_run(desk: Desk, request: CancelRun) -> CancelledJson:
    """Cancel a run, at once or after its executing steps."""
    outcome = await desk.control.cancel(request.run_id, request.reason)
    return {"run_id": request.run_id, "outcome": outcome.value}


@operation(
    "runs.rerun", "POST", "/runs/{run_id}/rerun", Scope.OPERATE, Kind.RUN_NOT_FOUND, Kind.RERUN_REFUSED
)
async def rerun_run(desk: Desk, request: RerunRun) -> RerunJson:
    """Run a run that has ended anew, as a whole or from a step."""
    if request.output is not UNCHANGED and request.from_step is None:
        raise Problem(Kind.INVALID_FIELD, "output is the outcome of a step: name that with from_step")
    edits = Edits(from_step=request.from_step, data=request.data, output=request.output)
    new_id = await desk.control.rerun(request.run_id, edits, uid=desk.uid)
    return {"run_id": new_id, "rerun_of": request.run_id}


OPERATIONS = (list_runs, get_run, get_steps, cancel_run, rerun_run)
