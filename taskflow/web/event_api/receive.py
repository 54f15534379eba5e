"""`POST /e/{key}`: takes events, as Inngest's SDKs send them. Rule S14.3."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.types import Receive, Scope, Send

from taskflow.event import Event
from taskflow.web.api.answers import HEADERS, as_problem, problem_headers
from taskflow.web.api.body import read_body
from taskflow.web.api.guard import Caller, Guard, Sender
from taskflow.web.api.routes import uid_of_first
from taskflow.web.catalogue.events import runs_of
from taskflow.web.catalogue.operation import Desk
from taskflow.web.catalogue.post import Seed
from taskflow.web.catalogue.problems import Kind, Problem
from taskflow.web.catalogue.runs import parse_wait_ms
from taskflow.web.event_api.bodies import read_events

SEED_HEADER = "x-inngest-event-id-seed"
ADDRESS = "/e/"
MAX_WATCHED = 20  # events of a request whose runs it may wait for


@dataclass(frozen=True, slots=True)
class EventApi:
    """Takes events at a desk, from senders whom the guard lets in."""

    desk: Desk
    guard: Guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in the form that Inngest's SDKs read, whatever comes.

        It speaks ASGI itself: a framework between would take as long as the work.
        """
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        status, told, more = 200, None, {}
        try:
            if scope["method"] != "OPTIONS":
                told = await self.answer(scope, headers, receive)
        except Exception as error:
            problem = as_problem(error)
            # `ids`, `status` and `error` are what SDKs look at.
            told = {"ids": [], "error": f"{problem.detail} {problem.kind.value.hint}", **problem.to_json()}
            status, more = problem.status, problem_headers(problem)
        body = b"" if told is None else orjson.dumps(told)
        shown = {
            **HEADERS, "x-inngest-server-kind": self.guard.server_kind, **self.guard.cors(headers), **more,
            "content-type": "application/json", "content-length": str(len(body)),
        }  # fmt: skip
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in shown.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    async def answer(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> dict[str, Any]:
        """The answer to GET, which tells whether the key is good, and to POST, which sends. Raises Problem, TaskFlowError."""
        sender = await self.guard.sender(headers, key_in(scope))
        match scope["method"]:
            case "GET" | "HEAD":
                return {"status": 200, "key": sender.name, "namespace": self.desk.link.config.namespace}
            case "POST":
                query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
                return await self.take(headers, await read_body(headers, receive), sender, query.get("wait"))
            case other:
                raise Problem(Kind.METHOD_NOT_ALLOWED, f"events are sent by POST, got {other:.20}")

    async def take(
        self, headers: Mapping[str, str], body: bytes, sender: Sender, wait: str | None
    ) -> dict[str, Any]:
        """Send the events of the body: all, or none. Raises Problem, TaskFlowError."""
        events, _ = read_events(body, headers, now_ms=self.desk.link.clock.now_ms())
        sender.check_names(events)
        wait_ms = None if wait is None else parse_wait_ms(wait)
        if wait_ms is not None and len(events) > MAX_WATCHED:
            raise Problem(
                Kind.INVALID_FIELD, f"wait goes with at most {MAX_WATCHED} events, got {len(events):,}"
            )
        await sender.spend(len(events))
        posted = await self.desk.post.send(events, await self.seed_of(headers, sender, events))
        answer: dict[str, Any] = {"ids": posted.uids, "status": 200}
        if posted.unheard:
            answer["unheard"] = posted.unheard
        if wait_ms is not None:
            found = await asyncio.gather(*[runs_of(self.desk, uid, wait_ms) for uid in posted.uids])
            answer["runs"] = list(found)
        return answer

    async def seed_of(
        self, headers: Mapping[str, str], sender: Sender, events: Sequence[Event]
    ) -> Seed | None:
        """What the ids are made of: the header of the SDKs, or the Idempotency-Key; None for new ids."""
        key = headers.get("idempotency-key")
        if key is not None:
            asked = [[event.name, event.data, event.id] for event in events]
            return Seed.of(await uid_of_first(self.desk, Caller(sender.name, None), key, asked))
        header = headers.get(SEED_HEADER)
        return None if header is None else Seed.parse(header)


def is_for_events(scope: Scope) -> bool:
    """Whether a request goes to `/e/{key}`."""
    return scope["type"] == "http" and path_in(scope).startswith(ADDRESS)


def key_in(scope: Scope) -> str:
    return path_in(scope)[len(ADDRESS) :]


def path_in(scope: Scope) -> str:
    """The path below the place where the site is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
