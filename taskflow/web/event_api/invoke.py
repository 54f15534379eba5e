"""`POST /invoke/{slug}`: starts one run of a function, as Inngest's dev server does. Rule S14.3."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from taskflow.web.api.answers import json_answer
from taskflow.web.api.body import parse_json, read_body
from taskflow.web.catalogue.audit import call_and_note
from taskflow.web.catalogue.functions import invoke_function
from taskflow.web.catalogue.operation import Desk
from taskflow.web.catalogue.problems import Kind, Problem
from taskflow.web.event_api.forms import function_named


@dataclass(frozen=True, slots=True)
class Invocation:
    """Starts runs at a desk, for callers who were let in."""

    desk: Desk

    async def invoke(self, request: Request) -> Response:
        """Start a run by an event without a name: `{"data", "user"}`."""
        body = await read_body(request.headers, request.receive)
        told = parse_json(body) if body else {}
        if not isinstance(told, dict):
            raise Problem(
                Kind.INVALID_REQUEST, f"expected an event as a JSON object, got a {type(told).__name__}"
            )
        app_id, _, function = (await function_named(self.desk, request.path_params["slug"])).partition("/")
        given = {"app": app_id, "function": function, "data": told.get("data"), "user": told.get("user")}
        answer = await call_and_note(invoke_function, self.desk, given, who=request.state.caller.name)
        return json_answer({"id": answer["run_id"], "status": 200})
