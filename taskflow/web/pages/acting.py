"""Acting: the page that asks before an action, and what carries it out. Rules S14.1, S14.5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from taskflow.runs.lookup import find_run
from taskflow.types import JsonObject
from taskflow.web.api.answers import as_problem
from taskflow.web.api.guard import Caller
from taskflow.web.catalogue.audit import call_and_note
from taskflow.web.catalogue.operation import Desk
from taskflow.web.catalogue.problems import Kind
from taskflow.web.catalogue.table import OPERATIONS
from taskflow.web.pages.actions import action_named, fields_of_form
from taskflow.web.pages.answering import Answering
from taskflow.web.pages.render import render
from taskflow.web.pages.visitor import came_from, path_here, read_form

# Problems of what the person has filled in: the form is shown again.
CORRECTABLE = (
    Kind.INVALID_FIELD, Kind.INVALID_REQUEST, Kind.INVALID_EVENT, Kind.SIGNAL_NOT_FOUND, Kind.BROKER_UNAVAILABLE,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Acting:
    """Asks before an action, carries it out, and notes it."""

    answering: Answering

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/do/{operation}", self.answering.read(self.ask), methods=["GET"]),
            Route("/do/{operation}", self.answering.called(self.act), methods=["POST"]),
        ]

    @property
    def desk(self) -> Desk:
        return self.answering.desk

    async def ask(self, request: Request, caller: Caller) -> Response:
        """The page that asks before an action, and takes its reason."""
        action_named(name := request.path_params["operation"])
        caller.check(OPERATIONS[name].scope)
        return await self.form(request, caller, dict(request.query_params), came_from(request))

    async def form(
        self, request: Request, caller: Caller, given: Mapping[str, str], back: str, problem: JsonObject | None = None
    ) -> Response:  # fmt: skip
        """The form of an action, with what is given already, and what is wrong with that."""
        action = action_named(name := request.path_params["operation"])
        inputs = [each for each in action.inputs if each.name != "output" or "from_step" in given]
        shown = {each.name for each in inputs} | {"reason", "back"}
        hidden = {key: value for key, value in given.items() if key not in shown}
        now = await self.data_now(given) if name == "runs.rerun" else {}
        return render(
            request, "confirm.html", caller, self.answering.now_ms, status=problem["status"] if problem else 200, action=action,
            name=name, inputs=inputs, hidden=hidden, given=given, back=back, problem=problem, now=now,
        )  # fmt: skip

    async def data_now(self, given: Mapping[str, str]) -> JsonObject:
        """What a rerun starts from, by field: the data of its event, and the outcome of its step if it has one."""
        async with self.desk.store() as (store, moment):
            run = await find_run(store, given.get("run_id", ""), moment)
        step = run.steps.get(given.get("from_step", ""))
        return {"data": run.event.get("data", {}), **({"output": step.output} if step and step.has_output else {})}  # fmt: skip

    async def act(self, request: Request, caller: Caller) -> Response:
        """Carry out an action, note it, and show what came of it."""
        form = await read_form(request)
        name = request.path_params["operation"]
        action, operation = action_named(name), OPERATIONS[name]
        caller.check(operation.scope)
        why = form.get("reason", "").strip()
        try:
            given: dict[str, Any] = fields_of_form(action, form)
            if name == "runs.cancel" and why:
                given["reason"] = why
            answer = await call_and_note(operation, self.desk, given, who=caller.name, why=why)
        except Exception as error:
            problem = as_problem(error)
            if problem.kind not in CORRECTABLE:
                raise problem from error
            return await self.form(request, caller, form, path_here(form.get("back", "/")), problem.to_json())
        return RedirectResponse(request.scope.get("root_path", "") + action.shown_after(given, answer), 303)
