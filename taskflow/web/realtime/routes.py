"""The routes under /v1/realtime, and the module for browsers. Rule S17.3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from taskflow.channel import TopicRef, check_name
from taskflow.connections import Connections
from taskflow.errors import TaskFlowError
from taskflow.realtime.publish import publish_message
from taskflow.realtime.tokens import Grant, TopicGrant, make_token, read_token
from taskflow.values.durations import parse_duration_ms
from taskflow.web.api.answers import as_problem, json_answer, problem_answer
from taskflow.web.api.body import parse_json, read_body
from taskflow.web.api.guard import Guard
from taskflow.web.api.routes import RawEndpoint
from taskflow.web.catalogue.operation import Scope as KeyScope
from taskflow.web.catalogue.problems import Kind, Problem
from taskflow.web.realtime.socket import REFUSED, serve_socket
from taskflow.web.realtime.sse import serve_events
from taskflow.web.realtime.watching import Place

TOKEN_TTL_MS = 3_600_000
NEVER_MS = 1 << 60
MAX_ID_CHARS = 18
MODULE = Path(__file__).parent / "assets" / "realtime.js"
CORS = {"access-control-allow-origin": "*"}


@dataclass(frozen=True, slots=True)
class RealtimeApi:
    """Serves subscriptions to who has a token, or a key; publishing and tokens to who has a key."""

    link: Connections
    guard: Guard
    heartbeat_s: float

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/sse", RawEndpoint(self.events), methods=["GET"]),
            WebSocketRoute("/connect", self.socket),
            Route("/publish", self.publish, methods=["POST"]),
            Route("/token", self.token, methods=["POST"]),
            Route("/realtime.js", browser_module, methods=["GET"]),
        ]

    async def events(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            grant = await self.grant(request.headers, request.query_params)
            place = self.place(request.query_params, request.headers.get("last-event-id", ""), grant)
        except (Problem, TaskFlowError) as error:
            answer = problem_answer(as_problem(error))
            answer.headers.update(CORS)
            await answer(scope, receive, send)
            return
        await serve_events(
            self.link, grant, place, receive, send, heartbeat_s=self.heartbeat_s, who=shown(grant)
        )

    async def socket(self, socket: WebSocket) -> None:
        try:
            grant = await self.grant(socket.headers, socket.query_params)
            place = self.place(socket.query_params, "", grant)
        except (Problem, TaskFlowError) as error:
            await socket.accept()
            await socket.close(REFUSED, as_problem(error).detail[:100])
            return
        await serve_socket(self.link, grant, place, socket, heartbeat_s=self.heartbeat_s, who=shown(grant))

    async def grant(self, headers: Mapping[str, str], query: QueryParams) -> Grant:
        """What the client may read: by its token, or with a key what it asks for. Raises Problem, TokenRefused."""
        if (token := query.get("token")) is not None:
            return read_token(
                self.signing_key(),
                token,
                namespace=self.link.config.namespace,
                now_ms=self.link.clock.now_ms(),
            )
        (await self.guard.caller(headers)).check(KeyScope.READ)
        channel = check_name(query.get("channel", ""), "the query's channel")
        topics = [name for name in query.get("topics", "").split(",") if name] or [""]
        return Grant(tuple(TopicGrant(channel, name) for name in topics), NEVER_MS)

    def place(self, query: QueryParams, last_event_id: str, grant: Grant) -> Place:
        """Where the client begins. Raises Problem, InvalidDuration."""
        after = last_event_id or query.get("after", "")
        if after:
            if not (after.isascii() and after.isdecimal() and len(after) <= MAX_ID_CHARS):
                raise Problem(Kind.INVALID_FIELD, f"after must be the id of a message, got {after!r:.40}")
            if len(grant.channels) > 1:
                raise Problem(Kind.INVALID_FIELD, "after is for one channel, but this token is for several")
            return Place(after=int(after))
        if since := query.get("since"):
            return Place(since_ms=self.link.clock.now_ms() - parse_duration_ms(since, what="since"))
        return Place()

    def signing_key(self) -> str:
        key = self.link.config.signing_key
        if not key:
            raise Problem(
                Kind.FORBIDDEN,
                "this web process has no TASKFLOW_SIGNING_KEY, so it takes and makes no subscription tokens",
            )
        return key

    async def publish(self, request: Request) -> Response:
        """Publish the body, JSON or text, on a topic that the query names."""
        (await self.guard.caller(request.headers)).check(KeyScope.OPERATE)
        topic: TopicRef[Any] = TopicRef(
            check_name(request.query_params.get("channel", ""), "the query's channel"),
            check_name(request.query_params.get("topic", ""), "the query's topic"),
        )
        body = await read_body(request.headers, request.receive, max_bytes=self.link.config.max_event_bytes)
        message_id = await publish_message(
            self.link.session(), topic, value_of(body, request.headers.get("content-type", "")),
            run_id=request.query_params.get("run_id", "")[:64], max_bytes=self.link.config.max_event_bytes,
            now_ms=self.link.clock.now_ms(),
        )  # fmt: skip
        return json_answer({"id": str(message_id)})

    async def token(self, request: Request) -> Response:
        """A token for the topics that the body lists: [{"channel", "name", "kind": "run"}]."""
        (await self.guard.caller(request.headers)).check(KeyScope.READ)
        asked = parse_json(await read_body(request.headers, request.receive, max_bytes=1 << 16))
        topics = [topic_asked(each) for each in (asked if isinstance(asked, list) else [asked])]
        token = make_token(
            self.signing_key(), topics, namespace=self.link.config.namespace, ttl_ms=TOKEN_TTL_MS,
            now_ms=self.link.clock.now_ms(),
        )  # fmt: skip
        return json_answer({"jwt": token}, 201)


def topic_asked(value: Any) -> TopicGrant:
    """A topic of a request for a token. Raises Problem, ConfigError."""
    if not isinstance(value, dict):
        raise Problem(Kind.INVALID_REQUEST, 'expected [{"channel": ..., "name": ...}] as body')
    return TopicGrant(
        check_name(value.get("channel"), "channel"), check_name(value.get("name", value.get("topic")), "name")
    )


def value_of(body: bytes, media_type: str) -> Any:
    """The value that is published: JSON, or the text of a body that says or shows that it is none. Raises Problem."""
    if media_type.startswith("application/json"):
        return parse_json(body)
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Problem(Kind.INVALID_REQUEST, "the body is neither JSON nor text in UTF-8") from None
    if media_type.startswith("text/"):
        return text
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return text


def shown(grant: Grant) -> str:
    """The subscriber in a log line."""
    return f"{grant.user or 'a browser'} to {', '.join(grant.channels):.200}"


@cache
def module_text() -> bytes:
    return MODULE.read_bytes()


async def browser_module(request: Request) -> Response:
    """The module for browsers; needs no key, since everybody has the code of taskflow."""
    headers = {"cache-control": "public, max-age=300", "x-content-type-options": "nosniff", **CORS}
    return Response(module_text(), headers=headers, media_type="text/javascript")
