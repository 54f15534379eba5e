"""The routes under /v1 that scripts written for Inngest call: events, runs, cancellations, functions, signals. Rule S14.3."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from taskflow.errors import EventNotFound, TaskFlowError
from taskflow.event import WireEvent
from taskflow.run import RunStatus, RunView
from taskflow.runs.events import find_event, recent_events
from taskflow.runs.functions import find_registered
from taskflow.runs.lookup import find_run
from taskflow.sent import EventView
from taskflow.values.durations import parse_when_ms
from taskflow.values.ids import is_ulid, ulid_ms
from taskflow.web.api.answers import as_problem, json_answer, problem_headers
from taskflow.web.api.body import parse_json, read_body
from taskflow.web.api.guard import Guard
from taskflow.web.catalogue.audit import Entry, call_and_note, note
from taskflow.web.catalogue.events import routed_event
from taskflow.web.catalogue.functions import trigger_json
from taskflow.web.catalogue.operation import Desk, Scope
from taskflow.web.catalogue.problems import Kind, Problem
from taskflow.web.catalogue.runs import cancel_run, parse_wait_ms, wait_for_end
from taskflow.web.event_api.cancellations import Cancellations
from taskflow.web.event_api.forms import iso, slug_of

STATUSES = {
    RunStatus.SCHEDULED: "Scheduled",
    RunStatus.QUEUED: "Scheduled",
    RunStatus.RUNNING: "Running",
    RunStatus.WAITING: "Running",
    RunStatus.COMPLETED: "Completed",
    RunStatus.FAILED: "Failed",
    RunStatus.CANCELLED: "Cancelled",
    RunStatus.SKIPPED: "Skipped",
}
DEFAULT_EVENTS, MAX_EVENTS = 20, 100
# An event of another web process that is no older than this may still be on its way to a worker, which is waited for so long.
ROUTED_WITHIN_S = 2.0
CANCELLED_BY = "cancelled over the web API"
Serve = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class ScriptApi:
    """Answers scripts at a desk, to callers whom the guard lets in."""

    desk: Desk
    guard: Guard

    def routes(self) -> list[BaseRoute]:
        read, operate = Scope.READ, Scope.OPERATE
        bulk = Cancellations(self.desk)
        return [
            Route("/events", self.guarded(read, self.events), methods=["GET"]),
            Route("/events/{event_id}", self.guarded(read, self.event), methods=["GET"]),
            Route("/events/{event_id}/runs", self.guarded(read, self.runs_of_event), methods=["GET"]),
            Route("/runs/{run_id}", self.guarded(read, self.run), methods=["GET"]),
            Route("/runs/{run_id}", self.guarded(operate, self.cancel), methods=["DELETE"]),
            Route("/runs/{run_id}/jobs", self.guarded(read, self.jobs), methods=["GET"]),
            Route("/cancellations", self.guarded(read, bulk.listed), methods=["GET"]),
            Route("/cancellations", self.guarded(operate, bulk.create), methods=["POST"]),
            Route("/cancellations/{id}", self.guarded(operate, bulk.stop), methods=["DELETE"]),
            Route("/apps/{app}/functions", self.guarded(read, self.functions), methods=["GET"]),
            Route("/signals", self.guarded(operate, self.signal), methods=["POST"]),
        ]

    def guarded(self, scope: Scope, serve: Serve) -> Serve:
        """The endpoint, for callers with this scope; a problem is answered as {"error", "status"}, with the members of ours."""

        async def endpoint(request: Request) -> Response:
            try:
                caller = await self.guard.caller(request.headers)
                caller.check(scope)
                request.state.caller = caller
                return await serve(request)
            except (Problem, TaskFlowError) as error:
                problem = as_problem(error)
                return json_answer(
                    {"error": problem.detail, **problem.to_json()}, problem.status, problem_headers(problem)
                )

        return endpoint

    def enveloped(self, data: Any) -> Response:
        now = iso(self.desk.link.clock.now_ms())
        return json_answer({"data": data, "metadata": {"fetched_at": now, "cached_until": now}})

    async def events(self, request: Request) -> Response:
        """The newest events. `received_after` ends the list, `received_before` and `cursor` begin it."""
        query = request.query_params
        text = query.get("limit", str(DEFAULT_EVENTS))
        if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MAX_EVENTS):
            raise Problem(Kind.INVALID_FIELD, f"limit must be from 1 to {MAX_EVENTS}, got {text!r:.40}")
        async with self.desk.store() as (store, moment):
            found = await recent_events(
                store, limit=int(text), name=query.get("name") or None, before_uid=query.get("cursor") or None
            )
        after, before = (
            parse_when_ms(query[name], now_ms=moment.now_ms, what=name) if query.get(name) else None
            for name in ("received_after", "received_before")
        )
        return self.enveloped(
            [
                event_json(each)
                for each in found
                if (after is None or each.received_ms >= after)
                and (before is None or each.received_ms <= before)
            ]
        )

    async def event(self, request: Request) -> Response:
        event_id = request.path_params["event_id"]
        found = await self.find(event_id)
        if found is not None:
            return self.enveloped(event_json(found))
        sent = self.desk.post.recall(event_id)
        if sent is not None:
            return self.enveloped(sent_json(sent))
        raise no_event(event_id)

    async def find(self, event_id: str) -> EventView | None:
        """The event. One that another web process has just taken is waited for."""
        try:
            async with self.desk.store() as (store, moment):
                return await find_event(store, event_id)
        except EventNotFound:
            if self.desk.post.recall(event_id) is not None:
                return None
            is_fresh = is_ulid(event_id) and abs(moment.now_ms - ulid_ms(event_id)) < ROUTED_WITHIN_S * 1000
            return await routed_event(self.desk, event_id, ROUTED_WITHIN_S) if is_fresh else None

    async def runs_of_event(self, request: Request) -> Response:
        """The runs of the event; of a duplicate, those of the event before it. None yet while no worker has routed it."""
        event_id = request.path_params["event_id"]
        found = await self.find(event_id)
        if found is None and self.desk.post.recall(event_id) is None:
            raise no_event(event_id)
        async with self.desk.store() as (store, moment):
            if found is not None and found.duplicate_of:
                found = await find_event(store, found.duplicate_of)
            run_ids = list(found.started.values()) if found else []
            views = await asyncio.gather(*[find_run(store, run_id, moment) for run_id in run_ids])
        return self.enveloped([run_json(view) for view in views])

    async def run(self, request: Request) -> Response:
        """The run; with `?wait=10s` once it has ended, or the time is over."""
        run_id, wait = request.path_params["run_id"], request.query_params.get("wait")
        if wait is not None:
            await wait_for_end(self.desk, run_id, parse_wait_ms(wait))
        async with self.desk.store() as (store, moment):
            return self.enveloped(run_json(await find_run(store, run_id, moment)))

    async def jobs(self, request: Request) -> Response:
        """The run's place in its queue: none for a run that does not wait for one."""
        run_id = request.path_params["run_id"]
        async with self.desk.store() as (store, moment):
            view = await find_run(store, run_id, moment)
            (lane,) = await store.history.fields(run_id, "lane")
            ahead = await store.history.ahead_of(view.function, view.queue, (lane or b"").decode(), run_id)
        if ahead is None:
            return json_answer([])
        return json_answer([{"at": iso(view.created_ms), "position": ahead, "attempt": view.attempt}])

    async def cancel(self, request: Request) -> Response:
        given = {"run_id": request.path_params["run_id"], "reason": CANCELLED_BY}
        await call_and_note(cancel_run, self.desk, given, who=request.state.caller.name)
        return Response(status_code=200)

    async def functions(self, request: Request) -> Response:
        async with self.desk.store() as (store, _):
            registered = await find_registered(store)
        specs = [each.spec for each in registered.functions if each.spec.app_id == request.path_params["app"]]
        return json_answer(
            [
                {
                    "id": spec.id, "slug": slug_of(spec.id), "name": spec.name,
                    "triggers": [trigger_json(each) for each in spec.triggers],
                }
                for spec in specs
            ]
        )  # fmt: skip

    async def signal(self, request: Request) -> Response:
        """Resume the run, of whichever app, that waits for the signal."""
        told = parse_json(await read_body(request.headers, request.receive))
        if not isinstance(told, dict) or not isinstance(told.get("signal"), str):
            raise Problem(Kind.INVALID_FIELD, 'expected {"signal": NAME, "data": ...}')
        async with self.desk.store() as (store, _):
            apps = await store.registry.apps()
        for app_id in apps:
            run_id = await self.desk.control.signal(app_id, told["signal"], told.get("data"))
            if run_id is not None:
                given = {"app": app_id, "name": told["signal"]}
                who = request.state.caller.name
                await note(self.desk, Entry.of(who, "signals.send", given, why="", outcome="done"))
                return self.enveloped({"run_id": run_id})
        raise Problem(Kind.SIGNAL_NOT_FOUND, f"No signal found: no run waits for {told['signal']!r:.80}")


def no_event(event_id: str) -> EventNotFound:
    return EventNotFound(
        f"there is no event {event_id}: check the id; an event is removed after the retention"
    )


def event_json(event: EventView) -> dict[str, Any]:
    return {
        "internal_id": event.uid, "account_id": "", "environment_id": "", "source": "", "source_id": "",
        "received_at": iso(event.received_ms), "id": event.id, "name": event.name, "data": event.data, "user": event.user,
        "ts": event.ts, "v": event.v,
    }  # fmt: skip


def sent_json(event: WireEvent) -> dict[str, Any]:
    """An event that no worker has routed so far."""
    return {
        "internal_id": event["uid"], "account_id": "", "environment_id": "", "source": "", "source_id": "",
        "received_at": iso(ulid_ms(event["uid"])), "id": event["id"], "name": event["name"], "data": event["data"],
        "user": event.get("user"), "ts": event["ts"], "v": event.get("v"),
    }  # fmt: skip


def run_json(run: RunView) -> dict[str, Any]:
    return {
        "run_id": run.run_id, "run_started_at": iso(run.started_ms or run.created_ms), "function_id": slug_of(run.function),
        "function": run.function, "function_version": run.version, "environment_id": "", "event_id": run.event.get("uid"),
        "batch_id": None, "original_run_id": run.rerun_of, "cron": None, "status": STATUSES[run.status],
        "ended_at": iso(run.ended_ms) if run.ended_ms is not None else None,
        "output": run.error.to_json() if run.error else run.output,
    }  # fmt: skip
