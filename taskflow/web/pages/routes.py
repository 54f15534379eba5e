"""The addresses of the pages, and what each reads. Rule S14.5."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from taskflow.errors import EventNotFound, RunNotFound
from taskflow.run import RunStatus, RunView
from taskflow.runs.events import find_event, recent_events
from taskflow.runs.failures import grouped
from taskflow.runs.lookup import FoundRuns, find_run, page_of_runs, whole_run_id
from taskflow.runs.queues import QueueView, find_queues
from taskflow.values.durations import parse_duration_ms
from taskflow.web.api.guard import Caller
from taskflow.web.catalogue.operation import Desk, Scope
from taskflow.web.catalogue.problems import Kind, Problem
from taskflow.web.catalogue.runs import cursor_of, parse_cursor
from taskflow.web.catalogue.table import OPERATIONS
from taskflow.web.pages.acting import Acting
from taskflow.web.pages.answering import Answering, View
from taskflow.web.pages.assets import serve_asset
from taskflow.web.pages.entrance import Entrance
from taskflow.web.pages.render import query, render
from taskflow.web.pages.texts import TEXTS
from taskflow.web.pages.timeline import axis, rows_of

PAGE = 50
FAILURES = 8  # on the overview
RECENT = 10  # on the page of a function
LOOKED_AT = 300  # how many failed runs are grouped


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of a deployment."""

    answering: Answering

    def routes(self) -> list[BaseRoute]:
        views: dict[str, View] = {
            "/": self.overview, "/runs": self.runs, "/runs/{run_id}": self.run, "/errors": self.errors, "/events": self.events,
            "/events/{event_id}": self.event, "/functions": self.functions, "/functions/{app}/{function}": self.function,
            "/queues": self.queues, "/workers": self.workers, "/dead-letters": self.dead_letters, "/audit": self.audit,
            "/search": self.search,
        }  # fmt: skip
        return [
            Route("/assets/{name}", self.answering.safe(serve_asset), methods=["GET"]),
            *[Route(path, self.answering.read(view), methods=["GET"]) for path, view in views.items()],
            *Acting(self.answering).routes(),
            *Entrance(self.answering).routes(),
        ]

    @property
    def desk(self) -> Desk:
        return self.answering.desk

    @property
    def now_ms(self) -> int:
        return self.answering.now_ms

    async def call(self, name: str, **given: Any) -> Any:
        """What an operation of the catalogue answers."""
        return await OPERATIONS[name].call(self.desk, given)

    # Reading

    async def overview(self, request: Request, caller: Caller) -> Response:
        now, queues, failures = await asyncio.gather(
            self.call("overview"), self.all_queues(), self.failures(FAILURES)
        )
        wrong = list(what_is_wrong(now, queues))
        return render(
            request, "overview.html", caller, self.now_ms, now=now, wrong=wrong, failures=failures.runs
        )  # fmt: skip

    async def all_queues(self) -> list[QueueView]:
        async with self.desk.store() as (store, _):
            return await find_queues(store)

    async def failures(self, limit: int) -> FoundRuns:
        async with self.desk.store() as (store, moment):
            return await page_of_runs(store, None, limit=limit, moment=moment, statuses=["failed"])

    async def errors(self, request: Request, caller: Caller) -> Response:
        """Failed runs by what failed, of the newest ones."""
        found = await self.failures(LOOKED_AT)
        return render(
            request, "errors.html", caller, self.now_ms, groups=grouped(found.runs), looked_at=len(found.runs),
            has_more=found.next is not None,
        )  # fmt: skip

    async def runs(self, request: Request, caller: Caller) -> Response:
        asked = request.query_params
        function, status, since = (asked.get(name, "") for name in ("function", "status", "since"))
        if status and status not in set(RunStatus):
            raise Problem(
                Kind.INVALID_FIELD, f"status must be one of {', '.join(RunStatus)}, got {status!r:.40}"
            )
        after = parse_cursor(asked["cursor"]) if asked.get("cursor") else None
        since_ms = parse_duration_ms(since, what="since") if since else None
        async with self.desk.store() as (store, moment):
            known = sorted(await store.registry.known_functions())
            found = await page_of_runs(
                store, [function] if function else None, limit=PAGE, moment=moment, after=after,
                statuses=[status] if status else (), since_ms=None if since_ms is None else moment.now_ms - since_ms,
            )  # fmt: skip
        filters = {"function": function, "status": status, "since": since}
        older = query(**filters, cursor=cursor_of(found.next)) if found.next else ""
        return render(
            request, "runs.html", caller, self.now_ms, runs=found.runs, known=known, filters=filters, older=older,
            is_first=after is None, statuses=[each.value for each in RunStatus],
        )  # fmt: skip

    async def run(self, request: Request, caller: Caller) -> Response:
        async with self.desk.store() as (store, moment):
            run = await find_run(store, request.path_params["run_id"], moment)
        now_ms, is_whole = moment.now_ms, "all" in request.query_params
        return render(
            request, "run.html", caller, now_ms, run=run, axis=axis(run, now_ms), is_whole=is_whole,
            rows=list(rows_of(run, now_ms, is_whole=is_whole)), chosen=run.steps.get(request.query_params.get("step", "")),
        )  # fmt: skip

    async def events(self, request: Request, caller: Caller) -> Response:
        name, cursor = request.query_params.get("name") or None, request.query_params.get("cursor") or None
        async with self.desk.store() as (store, _):
            found = await recent_events(store, limit=PAGE + 1, name=name, before_uid=cursor)
        page = found[:PAGE]
        older = query(name=name, cursor=page[-1].uid) if len(found) > PAGE else ""
        return render(request, "events.html", caller, self.now_ms, events=page, name=name or "", older=older)

    async def event(self, request: Request, caller: Caller) -> Response:
        event_id = request.path_params["event_id"]
        async with self.desk.store() as (store, _):
            try:
                event = await find_event(store, event_id)
            except EventNotFound:
                if "sent" not in request.query_params:
                    raise
                return render(request, "event_sent.html", caller, self.now_ms, event_id=event_id)
        return render(request, "event.html", caller, self.now_ms, event=event)

    async def functions(self, request: Request, caller: Caller) -> Response:
        found = await self.call(
            "functions.list", limit=200, cursor=request.query_params.get("cursor") or None
        )
        older = query(cursor=found["next"])
        return render(request, "functions.html", caller, self.now_ms, found=found, older=older)

    async def function(self, request: Request, caller: Caller) -> Response:
        app, slug = request.path_params["app"], request.path_params["function"]
        found, runs = await asyncio.gather(
            self.call("functions.get", app=app, function=slug), self.last_runs(f"{app}/{slug}")
        )
        return render(request, "function.html", caller, self.now_ms, function=found, slug=slug, runs=runs)

    async def last_runs(self, function_id: str) -> list[RunView]:
        async with self.desk.store() as (store, moment):
            return (await page_of_runs(store, [function_id], limit=RECENT, moment=moment)).runs

    async def queues(self, request: Request, caller: Caller) -> Response:
        return render(request, "queues.html", caller, self.now_ms, queues=await self.all_queues())

    async def workers(self, request: Request, caller: Caller) -> Response:
        found = await self.call("workers.list")
        return render(request, "workers.html", caller, self.now_ms, workers=found["workers"])

    async def dead_letters(self, request: Request, caller: Caller) -> Response:
        found = await self.call("dead_letters.list", limit=PAGE)
        return render(request, "dead_letters.html", caller, self.now_ms, letters=found["dead_letters"])

    async def audit(self, request: Request, caller: Caller) -> Response:
        caller.check(Scope.ADMIN)
        found = await self.call("audit.list", limit=PAGE, cursor=request.query_params.get("cursor") or None)
        return render(
            request, "audit.html", caller, self.now_ms, entries=found["entries"], older=query(cursor=found["next"])
        )  # fmt: skip

    async def search(self, request: Request, caller: Caller) -> Response:
        """Go to what the text names: a function, a run by the beginning of its id, or else an event."""
        text, base = request.query_params.get("q", "").strip(), request.scope.get("root_path", "")
        if "/" in text:
            return RedirectResponse(f"{base}/runs{query(function=text)}", 303)
        if not text:
            return RedirectResponse(f"{base}/runs", 303)
        async with self.desk.store() as (store, _):
            try:
                path = f"/runs/{await whole_run_id(store, text)}"
            except RunNotFound:
                path = f"/events/{(await find_event(store, text)).uid}"
        return RedirectResponse(base + path, 303)


def what_is_wrong(now: Any, queues: list[QueueView]) -> list[tuple[str, str, str]]:
    """What needs a person: what it is about, what is wrong, and the command that helps."""
    found = []
    if not now["workers"]:
        found.append(("", TEXTS.no_worker, "taskflow worker -A APP"))
    if now["workers"] and not now["beat"]:
        found.append(("", TEXTS.no_beat, "taskflow beat -A APP"))
    found += [
        (queue.id, TEXTS.unserved, f"taskflow worker -A APP -Q {queue.name}")
        for queue in queues
        if queue.queued and not queue.workers and now["workers"]
    ]
    found += [(each, TEXTS.function_paused, f"taskflow resume {each}") for each in now["paused_functions"]]
    found += [(each, TEXTS.queue_paused, f"taskflow queues resume {each}") for each in now["paused_queues"]]
    return found
