"""`POST /mcp`: the operations as tools for language models, over HTTP. Rule S14.1.

A tool that writes is there for keys that may operate. Each request stands for itself: no session is kept, so any web process
answers it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.util import find_spec

from starlette.requests import Request
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from taskflow.errors import TaskFlowError
from taskflow.web.api.answers import as_problem, problem_answer
from taskflow.web.api.guard import Guard
from taskflow.web.catalogue.operation import Desk, Scope
from taskflow.web.catalogue.problems import Kind, Problem

NEEDED = "mcp"


@dataclass(frozen=True, slots=True)
class McpEndpoint:
    """An ASGI app that serves tools at a desk, to callers whom the guard lets in."""

    desk: Desk
    guard: Guard
    version: str

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        try:
            caller = await self.guard.caller(Request(scope).headers)
            caller.check(Scope.READ)
            if find_spec(NEEDED) is None:
                raise Problem(Kind.NOT_FOUND, "MCP needs an extra: pip install 'taskflow-durable[mcp]'")
        except (Problem, TaskFlowError) as error:
            await problem_answer(as_problem(error))(scope, receive, send)
            return
        # Imported at the first request: the package takes a second, and few want it.
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from taskflow.web.tools import make_server

        logging.getLogger("mcp.server").setLevel(logging.WARNING)
        allows_writes = caller.scope is not None and caller.scope.includes(Scope.OPERATE)
        server = make_server(
            self.desk, allows_writes=allows_writes, version=self.version, who=f"{caller.name} over mcp"
        )
        # It can be started once, so each request has one of its own. That needs no start of the app that this one is mounted in.
        manager = StreamableHTTPSessionManager(server, json_response=True, stateless=True)
        async with manager.run():
            await manager.handle_request(scope, receive, send)
