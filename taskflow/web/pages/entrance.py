"""The entrance: signing in with an API key, signing out, and the theme. Rules S14.4, S14.5."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from taskflow.web.catalogue.operation import Scope
from taskflow.web.catalogue.problems import Problem
from taskflow.web.pages.answering import Answering
from taskflow.web.pages.render import render
from taskflow.web.pages.texts import TEXTS
from taskflow.web.pages.visitor import (
    COOKIE,
    THEME_COOKIE,
    THEMES,
    check_same_origin,
    path_here,
    read_form,
    set_cookie,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entrance:
    """What everybody may do, with or without a key."""

    answering: Answering

    def routes(self) -> list[BaseRoute]:
        safe = self.answering.safe
        return [
            Route("/sign-in", safe(self.sign_in), methods=["GET", "POST"]),
            Route("/sign-out", safe(self.sign_out), methods=["POST"]),
            Route("/theme", safe(self.choose_theme), methods=["POST"]),
        ]

    async def sign_in(self, request: Request) -> Response:
        now_ms = self.answering.now_ms
        if request.method == "GET":
            return render(request, "sign_in.html", None, now_ms, problem=None)
        key = (await read_form(request)).get("key", "").strip()
        try:
            headers = {**request.headers, "authorization": f"Bearer {key}"}
            (await self.answering.guard.caller(headers)).check(Scope.READ)
        except Problem as problem:
            told = {**problem.to_json(), "detail": TEXTS.wrong_key}
            return render(request, "sign_in.html", None, now_ms, status=problem.status, problem=told)
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
        answer = RedirectResponse(base + path_here(form.get("back", "/")), 303)
        if form.get("theme") in THEMES:
            set_cookie(request, answer, THEME_COOKIE, form["theme"])
        else:
            answer.delete_cookie(THEME_COOKIE, path=base or "/")
        return answer
