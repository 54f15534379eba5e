"""`POST /e/{key}`: takes events, as Inngest's SDKs send them. Rule S14.3."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from taskflow.errors import TaskFlowError
from taskflow.event import Event
from taskflow.web.api.answers import as_problem, json_answer, problem_headers
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
MAX_WATCHED = 20  # events of a request whose runs it may wait for


@dataclass(frozen=True, slots=True)
class EventApi:
    """Takes events at a desk, from senders whom the guard lets in."""

    desk: Desk
    guard: Guard

    async def serve(self, request: Request) -> Response:
        """Answer in the form that Inngest's SDKs read, whatever comes."""
        headers = {"x-inngest-server-kind": self.guard.server_kind, **self.guard.cors(request)}
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
        try:
            sender = await self.guard.sender(request)
            if request.method == "GET":
                return json_answer(
                    {"status": 200, "key": sender.name, "namespace": self.desk.link.config.namespace},
                    headers=headers,
                )
            return json_answer(await self.take(request, sender), headers=headers)
        except (Problem, TaskFlowError) as error:
            problem = as_problem(error)
            # `ids`, `status` and `error` are what SDKs look at.
            told = {"ids": [], "error": f"{problem.detail} {problem.kind.value.hint}", **problem.to_json()}
            return json_answer(told, problem.status, {**problem_headers(problem), **headers})

    async def take(self, request: Request, sender: Sender) -> dict[str, Any]:
        """Send the events of the request: all, or none. Raises Problem, TaskFlowError."""
        body = await read_body(request)
        now_ms = self.desk.link.clock.now_ms()
        events, _ = read_events(body, request.headers, now_ms=now_ms)
        sender.check_names(events)
        wait = request.query_params.get("wait")
        wait_ms = None if wait is None else parse_wait_ms(wait)
        if wait_ms is not None and len(events) > MAX_WATCHED:
            raise Problem(
                Kind.INVALID_FIELD, f"wait goes with at most {MAX_WATCHED} events, got {len(events):,}"
            )
        await sender.spend(len(events))
        posted = await self.desk.post.send(events, await self.seed_of(request, sender, events))
        answer: dict[str, Any] = {"ids": posted.uids, "status": 200}
        if posted.unheard:
            answer["unheard"] = posted.unheard
        if wait_ms is not None:
            found = await asyncio.gather(*[runs_of(self.desk, uid, wait_ms) for uid in posted.uids])
            answer["runs"] = list(found)
        return answer

    async def seed_of(self, request: Request, sender: Sender, events: Sequence[Event]) -> Seed | None:
        """What the ids are made of: the header of the SDKs, or the Idempotency-Key; None for new ids."""
        key = request.headers.get("idempotency-key")
        if key is not None:
            asked = [[event.name, event.data, event.id] for event in events]
            return Seed.of(await uid_of_first(self.desk, Caller(sender.name, None), key, asked))
        header = request.headers.get(SEED_HEADER)
        return None if header is None else Seed.parse(header)
