"""Operations on functions: list, get, pause, resume, invoke; and on signals, for which their runs wait."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, TypedDict, cast

from taskflow.beat.cron import next_tick_ms
from taskflow.function import FunctionSpec, InvokeOptions
from taskflow.runs.counts import RunCounts, count_runs
from taskflow.runs.functions import RegisteredFunction, find_registered
from taskflow.runs.lookup import find_run
from taskflow.triggers import Trigger, TriggerCron
from taskflow.types import JsonObject
from taskflow.web.catalogue.fields import wanted
from taskflow.web.catalogue.operation import Desk, Scope, operation, unknown_is
from taskflow.web.catalogue.problems import Kind, Problem
from taskflow.web.catalogue.runs import WAIT_HELP, RunJson, parse_wait_ms, wait_for_end

APP_HELP = "The id of the app."
FUNCTION_HELP = "The id of the function in its app."


class FunctionInListJson(TypedDict):
    """A function that workers have registered. Times are ms since the epoch."""

    id: str
    app: str
    name: str
    triggers: list[dict[str, Any]]
    queue: str
    retries: int
    next_tick_ms: int | None
    paused_ms: int | None
    versions: list[str]


class FunctionJson(FunctionInListJson):
    """A function, with the numbers of its runs by status."""

    runs: dict[str, int]


class FunctionListJson(TypedDict):
    """A page of functions, by id. `problems` are texts about registrations that can't be read."""

    functions: list[FunctionInListJson]
    problems: list[str]
    next: str | None


class PausedJson(TypedDict):
    """A function that is paused, and how many of its live runs were cancelled."""

    function: str
    cancelled: int


class ResumedJson(TypedDict):
    """A function that goes on, and how many runs that were skipped meanwhile are replayed."""

    function: str
    was_paused: bool
    replayed: int


class InvokedJson(TypedDict):
    """The run that was made; with `wait` also how it is, or how it ended."""

    run_id: str
    run: RunJson | None


class SignalledJson(TypedDict):
    """The run that goes on."""

    run_id: str


@dataclass(frozen=True, slots=True)
class ListFunctions:
    app: str | None = wanted("Only functions of this app.", default=None)
    limit: int = wanted("At most so many.", default=50, minimum=1, maximum=1_000)
    cursor: str | None = wanted("Where to go on: `next` of the page before.", default=None)


@dataclass(frozen=True, slots=True)
class OneFunction:
    app: str = wanted(APP_HELP)
    function: str = wanted(FUNCTION_HELP)

    @property
    def full_id(self) -> str:
        return f"{self.app}/{self.function}"


@dataclass(frozen=True, slots=True)
class PauseFunction(OneFunction):
    cancel_running: bool = wanted("Cancel its live runs too.", default=False)


@dataclass(frozen=True, slots=True)
class ResumeFunction(OneFunction):
    replay_skipped: bool = wanted("Replay the runs that were skipped meanwhile.", default=False)


@dataclass(frozen=True, slots=True)
class InvokeFunction(OneFunction):
    data: JsonObject | None = wanted("The data of the run's event.", default=None)
    id: str | None = wanted(
        "A second invoke of the function with this id within 24 h gives the first run.", default=None
    )
    user: JsonObject | None = wanted("Who asks for it.", default=None)
    headers: JsonObject | None = wanted(
        "Short texts by name, which all that comes of the run inherits.", default=None
    )
    delay: str | None = wanted("How long it is to wait before it begins: 30s, 2 days.", default=None)
    at: str | None = wanted("When it is to begin: 2030-01-31T12:00:00Z.", default=None)
    queue: str | None = wanted("Where it executes, in place of the function's queue.", default=None)
    wait: str | None = wanted(WAIT_HELP, default=None, max_chars=32)


@dataclass(frozen=True, slots=True)
class SendSignal:
    app: str = wanted(APP_HELP)
    name: str = wanted("The name of the signal.")
    data: Any = wanted("What the waiting step returns.", default=None)


@operation("functions.list", "GET", "/functions", Scope.READ)
async def list_functions(desk: Desk, request: ListFunctions) -> FunctionListJson:
    """List the functions that workers have registered, by id."""
    async with desk.store() as (store, moment):
        registered = await find_registered(store)
    found = [each for each in registered.functions if request.app in (None, each.spec.app_id)]
    first = bisect_right(found, request.cursor or "", key=lambda each: each.spec.id)
    page = found[first : first + request.limit]
    has_more = len(found) > first + request.limit
    return {
        "functions": [listed_json(each, moment.now_ms) for each in page], "problems": list(registered.problems),
        "next": page[-1].spec.id if has_more else None,
    }  # fmt: skip


@operation("functions.get", "GET", "/functions/{app}/{function}", Scope.READ, Kind.FUNCTION_NOT_FOUND)
async def get_function(desk: Desk, request: OneFunction) -> FunctionJson:
    """Show a function, with the numbers of its runs by status."""
    async with desk.store() as (store, moment):
        registered, counts = await asyncio.gather(
            find_registered(store), count_runs(store, [request.full_id])
        )
        found = next((each for each in registered.functions if each.spec.id == request.full_id), None)
        if found is None:
            raise Problem(
                Kind.FUNCTION_NOT_FOUND,
                f"there is no function {request.full_id!r}: no worker has registered it",
            )
    return function_json(found, counts[request.full_id], moment.now_ms)


@operation(
    "functions.pause", "POST", "/functions/{app}/{function}/pause", Scope.OPERATE, Kind.FUNCTION_NOT_FOUND
)
async def pause_function(desk: Desk, request: PauseFunction) -> PausedJson:
    """Let no run of a function begin or go on until it is resumed.

    Events are recorded as skipped runs, which a replay picks up. Live runs stop before their next step.
    """
    async with unknown_is(Kind.FUNCTION_NOT_FOUND):
        cancelled = await desk.control.pause(request.full_id, cancel_running=request.cancel_running)
    return {"function": request.full_id, "cancelled": cancelled}


@operation(
    "functions.resume", "POST", "/functions/{app}/{function}/resume", Scope.OPERATE, Kind.FUNCTION_NOT_FOUND
)
async def resume_function(desk: Desk, request: ResumeFunction) -> ResumedJson:
    """Let the runs of a paused function go on."""
    async with unknown_is(Kind.FUNCTION_NOT_FOUND):
        await desk.control.check_function(request.full_id)
    resumed = await desk.control.resume(request.full_id, replay_skipped=request.replay_skipped)
    return {"function": request.full_id, "was_paused": resumed.was_paused, "replayed": resumed.replayed}


@operation(
    "functions.invoke",
    "POST",
    "/functions/{app}/{function}/invoke",
    Scope.OPERATE,
    Kind.FUNCTION_NOT_FOUND,
    Kind.INVALID_EVENT,
)
async def invoke_function(desk: Desk, request: InvokeFunction) -> InvokedJson:
    """Start one run of a function, whatever its triggers; with `wait`, tell how it ended."""
    wait_ms = None if request.wait is None else parse_wait_ms(request.wait)
    async with unknown_is(Kind.FUNCTION_NOT_FOUND):
        spec = await desk.control.spec(request.full_id)
    options: InvokeOptions = {
        "id": request.id, "user": request.user, "headers": request.headers, "delay": request.delay, "at": request.at,
        "queue": request.queue,
    }  # fmt: skip
    version = desk.link.config.app_version
    run_id = await desk.control.invoke(spec, request.data, version=version, uid=desk.uid, **options)
    if wait_ms is None:
        return {"run_id": run_id, "run": None}
    await wait_for_end(desk, run_id, wait_ms)
    async with desk.store() as (store, moment):
        view = await find_run(store, run_id, moment)
    return {"run_id": run_id, "run": cast(RunJson, view.to_json(moment.now_ms))}


@operation("signals.send", "POST", "/signals", Scope.OPERATE, Kind.SIGNAL_NOT_FOUND)
async def send_signal(desk: Desk, request: SendSignal) -> SignalledJson:
    """Resume the run of an app that waits for a signal."""
    run_id = await desk.control.signal(request.app, request.name, request.data, uid=desk.uid)
    if run_id is None:
        raise Problem(Kind.SIGNAL_NOT_FOUND, f"no run of {request.app} waits for the signal {request.name!r}")
    return {"run_id": run_id}


def listed_json(function: RegisteredFunction, now_ms: int) -> FunctionInListJson:
    spec = function.spec
    return {
        "id": spec.id, "app": spec.app_id, "name": spec.name, "triggers": [trigger_json(each) for each in spec.triggers],
        "queue": spec.queue, "retries": spec.retries.attempts, "next_tick_ms": next_tick(spec, now_ms),
        "paused_ms": function.paused_ms, "versions": list(function.versions),
    }  # fmt: skip


def function_json(function: RegisteredFunction, runs: RunCounts, now_ms: int) -> FunctionJson:
    """A function as a JSON object, as `taskflow functions --json` shows it too."""
    return {**listed_json(function, now_ms), "runs": runs.to_json()}


def next_tick(spec: FunctionSpec, now_ms: int) -> int | None:
    """The next tick (ms since epoch) of the function's crons, without jitter; None if it has no cron."""
    crons = (trigger.cron for trigger in spec.triggers if isinstance(trigger, TriggerCron))
    return min((next_tick_ms(cron, now_ms) for cron in crons), default=None)


def trigger_json(trigger: Trigger) -> dict[str, Any]:
    """A trigger as a JSON object with all of its fields, also those that a manifest leaves out."""
    if isinstance(trigger, TriggerCron):
        return {"cron": trigger.cron, "jitter_ms": trigger.jitter_ms, "catchup": trigger.catchup}
    return {"event": trigger.event, "expression": trigger.expression}


OPERATIONS = (list_functions, get_function, pause_function, resume_function, invoke_function, send_signal)
