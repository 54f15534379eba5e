"""The site: everything that is served over HTTP, as one ASGI app that works under any prefix. Rule S14.2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from taskflow.connections import Connections
from taskflow.errors import TaskFlowError
from taskflow.function import Function
from taskflow.web.api.answers import answer_error, json_answer
from taskflow.web.api.guard import Guard, OpenOnThisMachine
from taskflow.web.api.ring import ByKey, KeyRing
from taskflow.web.api.routes import PREFIX, Api, RawEndpoint
from taskflow.web.api.stream import HEARTBEAT_S
from taskflow.web.catalogue.operation import Desk
from taskflow.web.catalogue.operation import Scope as Allowed
from taskflow.web.catalogue.post import Post
from taskflow.web.catalogue.problems import Problem
from taskflow.web.event_api.invoke import Invocation
from taskflow.web.event_api.receive import EventApi, is_for_events
from taskflow.web.event_api.v1 import ScriptApi
from taskflow.web.mcp import McpEndpoint
from taskflow.web.pages.answering import Answering
from taskflow.web.pages.routes import Pages
from taskflow.web.realtime.routes import RealtimeApi
from taskflow.web.webhooks import AppWebhooks, WebhookApi


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteOptions:
    """What a site may do, and how."""

    is_dev: bool = False  # lets in everybody on this machine; else callers need a key
    version: str = ""
    heartbeat_s: float = HEARTBEAT_S
    functions: Mapping[str, Function[Any, Any]] = field(default_factory=dict)
    webhooks: AppWebhooks = field(default_factory=AppWebhooks)


def make_site(link: Connections, options: SiteOptions) -> ASGIApp:
    """The ASGI app that serves a deployment."""
    desk = Desk(link, Post(link), options.functions)
    guard: Guard = OpenOnThisMachine() if options.is_dev else ByKey(KeyRing(link))
    api = Api(desk, guard, options.version, options.heartbeat_s)
    answering = Answering(desk, guard)
    event_api, scripts = EventApi(desk, guard), ScriptApi(desk, guard)
    handlers: dict[Any, Any] = dict.fromkeys((HTTPException, Problem, TaskFlowError, Exception), answer_error)
    routes: list[BaseRoute] = [
        Route("/health", health, methods=["GET"]),
        Mount("/v1/realtime", routes=RealtimeApi(link, guard, options.heartbeat_s).routes()),
        Mount("/v1", routes=scripts.routes()),
        Mount(PREFIX, routes=api.routes()),
        Route("/mcp", RawEndpoint(McpEndpoint(desk, guard, options.version)), methods=["POST"]),
        Route("/invoke/{slug}", scripts.guarded(Allowed.OPERATE, Invocation(desk).invoke), methods=["POST"]),
        Mount("/webhooks", routes=WebhookApi(desk, options.webhooks).routes()),
        *Pages(answering).routes(),
    ]
    if options.is_dev:
        # Inngest's SDKs ask here whether a dev server runs.
        routes.append(Route("/dev", dev_server, methods=["GET"]))
    others = Starlette(routes=routes, exception_handlers=handlers)
    others.router.default = answering.otherwise(others.router.default)

    async def site(scope: Scope, receive: Receive, send: Send) -> None:
        await (event_api if is_for_events(scope) else others)(scope, receive, send)

    return site


async def health(request: Request) -> Response:
    """The process lives. It asks no server."""
    return json_answer({"status": 200, "message": "OK"})


async def dev_server(request: Request) -> Response:
    return json_answer({"version": "taskflow", "functions": [], "handlers": [], "startOpts": {}})
