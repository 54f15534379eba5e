"""`/v1/cancellations`: cancellations in bulk, as scripts for Inngest ask for them. They are bulk operations. Rule S14.3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from taskflow.runs.bulk import BulkAction, BulkView
from taskflow.web.api.answers import json_answer
from taskflow.web.api.body import parse_json, read_body
from taskflow.web.catalogue.audit import call_and_note
from taskflow.web.catalogue.bulk import create_bulk, stop_bulk
from taskflow.web.catalogue.operation import Desk
from taskflow.web.catalogue.problems import Kind, Problem
from taskflow.web.event_api.forms import function_named, iso

MOST = 100


@dataclass(frozen=True, slots=True)
class Cancellations:
    """Answers at a desk, to callers who were let in."""

    desk: Desk

    async def create(self, request: Request) -> Response:
        """Cancel the live runs of a function that were made until a time."""
        told = parse_json(await read_body(request.headers, request.receive))
        if not isinstance(told, dict) or not all(
            isinstance(told.get(name), str) and told[name]
            for name in ("app_id", "function_id", "started_before")
        ):
            raise Problem(
                Kind.INVALID_FIELD,
                'expected {"app_id", "function_id", "started_before", ...}, all of them texts',
            )
        given = {
            "action": BulkAction.CANCEL.value,
            "function": await function_named(self.desk, told["function_id"], told["app_id"]),
            "until": told["started_before"],
            "since": told.get("started_after"),
            "if_exp": told.get("if"),
        }
        answer = await call_and_note(create_bulk, self.desk, given, who=request.state.caller.name)
        return json_answer({"data": cancellation_json(answer), "metadata": None}, 201)

    async def listed(self, request: Request) -> Response:
        """The newest cancellations in bulk."""
        async with self.desk.store() as (store, _):
            found = [BulkView.of(each) for each in await store.bulks.newest(limit=MOST)]
        rows = [
            cancellation_json(each.to_json()) for each in found if each.request.action is BulkAction.CANCEL
        ]
        return json_answer({"data": rows, "metadata": None})

    async def stop(self, request: Request) -> Response:
        """Stop a cancellation: what it has cancelled stays so."""
        given = {"bulk_id": request.path_params["id"]}
        await call_and_note(stop_bulk, self.desk, given, who=request.state.caller.name)
        return Response(status_code=204)


def cancellation_json(bulk: dict[str, Any]) -> dict[str, Any]:
    app_id, _, function = (bulk["functions"] or ["/"])[0].partition("/")
    return {
        "id": bulk["id"], "environment_id": "", "created_at": iso(bulk["created_ms"]), "name": bulk["reason"], "kind": "BULK_RUN",
        "cause": "api", "app_id": app_id, "function_id": function, "started_before": iso(bulk["until_ms"]),
        "started_after": None if bulk["since_ms"] is None else iso(bulk["since_ms"]), "if": bulk["if_exp"],
    }  # fmt: skip
