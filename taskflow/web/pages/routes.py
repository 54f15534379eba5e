"""The addresses of the pages, and what each reads. Rule S14.5."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from taskflow.errors import RunNotFound, TaskFlowError
from taskflow.run import RunStatus
from taskflow.runs.events import find_event, recent_events
from taskflow.runs.lookup import find_run, recent_runs, whole_run_id
from taskflow.runs.queues import QueueView, find_queues
from taskflow.values.durations import parse_duration_ms
from taskflow.web.api.answers import as_problem
from taskflow.web.api.guard import Caller, Guard
from taskflow.web.catalogue.audit import call_and_note
from taskflow.web.catalogue.operation import Desk, Scope
from taskflow.web.catalogue.problems import Kind, Problem
from taskflow.web.catalogue.runs import parse_cursor
from taskflow.web.catalogue.table import OPERATIONS
from taskflow.web.pages.actions import action_named, fields_of_form
from taskflow.web.pages.assets import serve_asset
from taskflow.web.pages.render import query, render
from taskflow.web.pages.texts import TEXTS
from taskflow.web.pages.timeline import axis, rows_of
from taskflow.web.pages.visitor import (
    COOKIE,
    THEME_COOKIE,
    THEMES,
    caller_of,
    check_same_origin,
    read_form,
    set_cookie,
)  # fmt: skip

PAGE = 50
FAILURES = 8  # on the overview
View = Callable[[Request, Caller], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of the deployment at a desk, for callers whom the guard lets in."""

    desk: Desk
    guard: Guard

    def routes(self) -> list[BaseRoute]:
        views: dict[str, View] = {
            "/": self.overview, "/runs": self.runs, "/runs/{run_id}": self.run, "/events": self.events,
            "/events/{event_id}": self.event, "/functions": self.functions, "/functions/{app}/{function}": self.function,
            "/queues": self.queues, "/workers": self.workers, "/dead-letters": self.dead_letters, "/audit": self.audit,
            "/search": self.search, "/do/{operation}": self.ask,
        }  # fmt: skip
        return [
            Route("/assets/{name}", self.safe(serve_asset), methods=["GET"]),
            Route("/sign-in", self.safe(self.sign_in), methods=["GET", "POST"]),
            Route("/sign-out", self.safe(self.sign_out), methods=["POST"]),
            Route("/theme", self.safe(self.choose_theme), methods=["POST"]),
            *[Route(path, self.read(view), methods=["GET"]) for path, view in views.items()],
            Route("/do/{operation}", self.safe(self.act), methods=["POST"]),
        ]

    @property
    def now_ms(self) -> int:
        return self.desk.link.clock.now_ms()

    def read(self, view: View) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint of a page, for callers who may read."""

        async def serve(request: Request) -> Response:
            caller = await caller_of(request, self.guard)
            caller.check(Scope.READ)
            return await view(request, caller)

        return self.safe(serve)

    def safe(self, serve: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:  # fmt: skip
        """The endpoint, with a page for each problem; who has no key is asked for one."""

        async def answer(request: Request) -> Response:
            try:
                return await serve(request)
            except (Problem, TaskFlowError) as error:
                problem = as_problem(error)
            template = "sign_in.html" if problem.kind is Kind.UNAUTHENTICATED else "problem.html"
            told = problem.to_json()
            return render(request, template, None, self.now_ms, status=problem.status, problem=told)

        return answer

    async def call(self, name: str, **given: Any) -> Any:
        """What an operation of the catalogue answers."""
        return await OPERATIONS[name].call(self.desk, given)

    # Reading

    async def overview(self, request: Request, caller: Caller) -> Response:
        now, queues, failures = await asyncio.gather(
            self.call("overview"), self.all_queues(), self.failures()
        )
        wrong = list(what_is_wrong(now, queues))
        return render(
            request, "overview.html", caller, self.now_ms, now=now, wrong=wrong, failures=failures, total=sum(now["live"].values())
        )  # fmt: skip

    async def all_queues(self) -> list[QueueView]:
        async with self.desk.store() as (store, _):
            return await find_queues(store)

    async def failures(self) -> list[Any]:
        async with self.desk.store() as (store, moment):
            known = await store.registry.known_functions()
            found = await recent_runs(
                store, known, limit=FAILURES, moment=moment, statuses=["failed"], counts_all=False
            )
        return found.runs

    async def runs(self, request: Request, caller: Caller) -> Response:
        asked = request.query_params
        function, status, since = (asked.get(name, "") for name in ("function", "status", "since"))
        if status and status not in set(RunStatus):
            raise Problem(
                Kind.INVALID_FIELD, f"status must be one of {', '.join(RunStatus)}, got {status!r:.40}"
            )
        before = parse_cursor(asked["cursor"]) if asked.get("cursor") else None
        since_ms = parse_duration_ms(since, what="since") if since else None
        async with self.desk.store() as (store, moment):
            known = sorted(await store.registry.known_functions())
            found = await recent_runs(
                store, [function] if function else known, limit=PAGE, moment=moment, before=before, counts_all=False,
                statuses=[status] if status else (), since_ms=None if since_ms is None else moment.now_ms - since_ms,
            )  # fmt: skip
        filters = {"function": function, "status": status, "since": since}
        last = found.runs[-1] if found.has_more else None
        older = query(**filters, cursor=f"{last.created_ms}-{last.run_id}") if last else ""
        return render(
            request, "runs.html", caller, self.now_ms, runs=found.runs, known=known, filters=filters, older=older,
            is_first=before is None, statuses=[each.value for each in RunStatus],
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
        async with self.desk.store() as (store, _):
            event = await find_event(store, request.path_params["event_id"])
        return render(request, "event.html", caller, self.now_ms, event=event)

    async def functions(self, request: Request, caller: Caller) -> Response:
        found = await self.call(
            "functions.list", limit=200, cursor=request.query_params.get("cursor") or None
        )
        older = query(cursor=found["next"])
        return render(request, "functions.html", caller, self.now_ms, found=found, older=older)

    async def function(self, request: Request, caller: Caller) -> Response:
        found = await self.call("functions.get", **request.path_params)
        return render(
            request,
            "function.html",
            caller,
            self.now_ms,
            function=found,
            slug=request.path_params["function"],
        )

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

    # Acting

    async def ask(self, request: Request, caller: Caller) -> Response:
        """The page that asks before an action, and takes its reason."""
        name = request.path_params["operation"]
        action, given = action_named(name), dict(request.query_params)
        caller.check(OPERATIONS[name].scope)
        shown = [each for each in action.inputs if each.name != "output" or "from_step" in given]
        hidden = {key: value for key, value in given.items() if key not in {each.name for each in shown}}
        return render(
            request, "confirm.html", caller, self.now_ms, action=action, name=name, inputs=shown, hidden=hidden, given=given
        )  # fmt: skip

    async def act(self, request: Request) -> Response:
        """Carry out an action, note it, and show what came of it."""
        form = await read_form(request)
        name = request.path_params["operation"]
        action, operation, caller = action_named(name), OPERATIONS[name], await caller_of(request, self.guard)
        caller.check(operation.scope)
        given, why = fields_of_form(action, form), form.get("reason", "").strip()
        if name == "runs.cancel" and why:
            given["reason"] = why
        answer = await call_and_note(operation, self.desk, given, who=caller.name, why=why)
        return RedirectResponse(request.scope.get("root_path", "") + action.shown_after(given, answer), 303)

    # Signing in, and the theme

    async def sign_in(self, request: Request) -> Response:
        if request.method == "GET":
            return render(request, "sign_in.html", None, self.now_ms, problem=None)
        key = (await read_form(request)).get("key", "").strip()
        try:
            (await self.guard.caller({**request.headers, "authorization": f"Bearer {key}"})).check(Scope.READ)
        except Problem as problem:
            told = {**problem.to_json(), "detail": TEXTS.wrong_key}
            return render(request, "sign_in.html", None, self.now_ms, status=problem.status, problem=told)
        answer = RedirectResponse(request.scope.get("root_path", "") + "/", 303)
        set_cookie(request, answer, COOKIE, key)
        return answer

    async def sign_out(self, request: Request) -> Response:
        check_same_origin(request)
        base = request.scope.get("root_path", "")
        answer = RedirectResponse(f"{base}/sign-in", 303)
        answer.delete_cookie(COOKIE, path=base or "/")
        return answer

    async def choose_theme(self, request: Request) -> Response:
        form, base = await read_form(request), request.scope.get("root_path", "")
        # Only a path of this site is gone back to.
        back = form.get("back", "/")
        if not back.startswith("/") or back.startswith("//") or "\\" in back:
            back = "/"
        answer = RedirectResponse(base + back, 303)
        if form.get("theme") in THEMES:
            set_cookie(request, answer, THEME_COOKIE, form["theme"])
        else:
            answer.delete_cookie(THEME_COOKIE, path=base or "/")
        return answer


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
