"""The operations as routes under /api/v1. Rule S14.2."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from taskflow.errors import RunNotFound, TaskFlowError
from taskflow.run import no_run
from taskflow.values.ids import new_ulid
from taskflow.web.api.answers import json_answer, problem_answer
from taskflow.web.api.body import check_is_json, parse_json, read_body
from taskflow.web.api.guard import Caller, Guard
from taskflow.web.api.openapi import describe
from taskflow.web.api.stream import HEARTBEAT_S, EventStream, run_messages, until_gone
from taskflow.web.catalogue.audit import call_and_note
from taskflow.web.catalogue.fields import parse_texts
from taskflow.web.catalogue.operation import Desk, Operation, Scope
from taskflow.web.catalogue.problems import Kind, Problem, problem_of
from taskflow.web.catalogue.table import OPERATIONS

T = TypeVar("T")

PREFIX = "/api/v1"
MAX_KEY_CHARS = 256
MAX_ID_CHARS = 64


@dataclass(frozen=True, slots=True)
class Api:
    """Serves the operations at a desk, to callers whom the guard lets in."""

    desk: Desk
    guard: Guard
    version: str
    heartbeat_s: float = HEARTBEAT_S

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/openapi.json", self.openapi),
            Route("/runs/{run_id}/stream", RawEndpoint(self.stream), methods=["GET"]),
            *[Route(each.path, self.endpoint(each), methods=[each.method]) for each in OPERATIONS.values()],
        ]

    async def openapi(self, request: Request) -> Response:
        await self.guard.caller(request.headers)
        root = request.scope.get("root_path", "")
        return json_answer(describe(OPERATIONS.values(), prefix=root or PREFIX, version=self.version))

    def endpoint(self, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            caller = await self.guard.caller(request.headers)
            caller.check(operation.scope)
            given = await fields_given(operation, request)
            if not operation.is_write:
                return json_answer(await while_connected(request, operation.call(self.desk, given)))
            return json_answer(await self.write(operation, request, caller, given))

        return serve

    async def write(
        self, operation: Operation, request: Request, caller: Caller, given: Mapping[str, Any]
    ) -> Any:
        """Carry out an operation that changes something, once for an Idempotency-Key, and note who did it."""
        desk, key = self.desk, request.headers.get("idempotency-key")
        if key is not None:
            desk = replace(desk, uid=await uid_of_first(desk, caller, key, [operation.name, given]))
        why = request.headers.get("x-reason", "")
        return await while_connected(request, call_and_note(operation, desk, given, who=caller.name, why=why))

    async def stream(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        (await self.guard.caller(request.headers)).check(Scope.READ)
        run_id, link = request.path_params["run_id"], self.desk.link
        try:
            # So that an unknown run is a 404, and not a stream.
            (status,) = await link.run_fields(run_id, "status")
            if status is None:
                raise RunNotFound(no_run(run_id))
        except TaskFlowError as error:
            await problem_answer(problem_of(error))(scope, receive, send)
            return
        await EventStream(lambda: run_messages(link, run_id, heartbeat_s=self.heartbeat_s))(
            scope, receive, send
        )


class RawEndpoint:
    """An ASGI app as the endpoint of a route: Starlette takes an object that is no function for one."""

    def __init__(self, serve: ASGIApp) -> None:
        self.serve = serve

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        await self.serve(scope, receive, send)


async def fields_given(operation: Operation, request: Request) -> dict[str, Any]:
    """The fields of the request: those of the path, of the query, and of the body. Raises Problem."""
    given = parse_texts(operation.request, request.query_params.multi_items())
    if operation.is_write and (body := await read_body(request.headers, request.receive)):
        check_is_json(request.headers)
        members = parse_json(body)
        if not isinstance(members, dict):
            raise Problem(
                Kind.INVALID_REQUEST, f"the body must be a JSON object, got a {type(members).__name__}"
            )
        given |= members
    for name, text in request.path_params.items():
        if name in given:
            raise Problem(Kind.INVALID_FIELD, f"{name} stands in the address: leave it out of query and body")
        given[name] = text
    return given


async def uid_of_first(desk: Desk, caller: Caller, key: str, asked: object) -> str:
    """The uid of this caller's first request with this Idempotency-Key. Raises Problem if that one asked for something else."""
    if not 1 <= len(key) <= MAX_KEY_CHARS:
        raise Problem(
            Kind.INVALID_REQUEST, f"Idempotency-Key must have 1 to {MAX_KEY_CHARS} characters, got {len(key)}"
        )
    name, fingerprint = digest([caller.name, key]), digest(asked)
    async with desk.store() as (store, moment):
        uid, first = await store.clients.keep_request(name, fingerprint, uid=new_ulid(moment.now_ms))
    if first != fingerprint:
        raise Problem(
            Kind.KEY_REUSED,
            f"the Idempotency-Key {key!r:.80} was used within the last hour, with another request",
        )
    return uid


def digest(value: object) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which ends when the client goes away: nobody would get the result."""
    working = asyncio.ensure_future(work)
    if "wait" not in request.query_params:
        return await working
    leaving = asyncio.ensure_future(until_gone(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Problem(Kind.INVALID_REQUEST, "the client went away")
        return await working
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
