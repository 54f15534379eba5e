"""Answering: the endpoint of a page, for those who may see it, with a page for each problem. Rules S14.4, S14.5."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope

from taskflow.web.api.answers import as_problem
from taskflow.web.api.guard import Caller, Guard
from taskflow.web.catalogue.operation import Desk, Scope
from taskflow.web.catalogue.problems import Kind, Problem
from taskflow.web.pages.render import render
from taskflow.web.pages.visitor import caller_of

Serve = Callable[[Request], Awaitable[Response]]
View = Callable[[Request, Caller], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Answering:
    """Answers with pages, to callers whom the guard lets in."""

    desk: Desk
    guard: Guard

    @property
    def now_ms(self) -> int:
        return self.desk.link.clock.now_ms()

    def read(self, view: View) -> Serve:
        """The endpoint of a page, for callers who may read."""
        return self.called(view, Scope.READ)

    def called(self, view: View, needed: Scope | None = None) -> Serve:
        """The endpoint of what is asked by a caller, who has a scope if one is needed."""

        async def serve(request: Request) -> Response:
            caller = await caller_of(request, self.guard)
            if needed is not None:
                caller.check(needed)
            try:
                return await view(request, caller)
            except Exception as error:
                return self.problem(request, error, caller)

        return self.safe(serve)

    def safe(self, serve: Serve) -> Serve:
        """The endpoint, with a page for each problem; who has no key is asked for one."""

        async def answer(request: Request) -> Response:
            try:
                return await serve(request)
            except Exception as error:
                return self.problem(request, error, None)

        return answer

    def problem(self, request: Request, error: Exception, caller: Caller | None) -> Response:
        problem = as_problem(error)
        template = "sign_in.html" if problem.kind is Kind.UNAUTHENTICATED else "problem.html"
        return render(
            request, template, caller, self.now_ms, status=problem.status, problem=problem.to_json()
        )

    def otherwise(self, default: ASGIApp) -> ASGIApp:
        """For Starlette: answers what no address takes, with a page for a browser, and by `default` for others."""

        async def missing(request: Request, caller: Caller) -> Response:
            raise Problem(Kind.NOT_FOUND, f"there is no page {request.url.path:.200}")

        async def answer(scope: ASGIScope, receive: Receive, send: Send) -> None:
            is_page = scope["type"] == "http" and scope["method"] == "GET"
            if is_page and "text/html" in Headers(scope=scope).get("accept", ""):
                return await (await self.read(missing)(Request(scope, receive)))(scope, receive, send)
            await default(scope, receive, send)

        return answer
