"""The site: everything that is served over HTTP, as one ASGI app that works under any prefix. Rule S14.2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from taskflow.connections import Connections
from taskflow.errors import TaskFlowError
from taskflow.function import Function
from taskflow.web.api.answers import answer_error, json_answer
from taskflow.web.api.guard import Guard
from taskflow.web.api.routes import PREFIX, Api
from taskflow.web.api.stream import HEARTBEAT_S
from taskflow.web.catalogue.operation import Desk
from taskflow.web.catalogue.post import Post
from taskflow.web.catalogue.problems import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteOptions:
    """What a site may do, and how."""

    guard: Guard
    version: str = ""
    heartbeat_s: float = HEARTBEAT_S
    functions: Mapping[str, Function[Any, Any]] = field(default_factory=dict)


def make_site(link: Connections, options: SiteOptions) -> Starlette:
    """The ASGI app that serves a deployment."""
    desk = Desk(link, Post(link), options.functions)
    api = Api(desk, options.guard, options.version, options.heartbeat_s)
    handlers: dict[Any, Any] = dict.fromkeys((HTTPException, Problem, TaskFlowError, Exception), answer_error)
    return Starlette(
        routes=[Route("/health", health, methods=["GET"]), Mount(PREFIX, routes=api.routes())],
        exception_handlers=handlers,
    )


async def health(request: Request) -> Response:
    """The process lives. It asks no server."""
    return json_answer({"status": 200, "message": "OK"})
