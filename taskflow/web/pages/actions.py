"""Actions: what a page lets a person do, each an operation of the catalogue behind a page that asks first. Rules S14.1, S14.5."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal
from urllib.parse import quote

import orjson

from taskflow.values.record import record
from taskflow.web.catalogue.problems import Kind, Problem
from taskflow.web.pages.texts import TEXTS as T


@record
class Input:
    """A field that the person fills in: a text, JSON, or a box to tick."""

    name: str
    label: str
    kind: Literal["text", "json", "check"] = "text"


@record(kw_only=True)
class Action:
    """An action: its title, verb and effect, what it asks for, and the address to show afterwards, of fields and answer."""

    title: str
    verb: str  # on the button
    effect: str
    inputs: tuple[Input, ...] = ()
    shown_after: Callable[[Mapping[str, Any], Mapping[str, Any]], str]


def run_path(run_id: str) -> str:
    return f"/runs/{quote(run_id, safe='')}"


def function_path(given: Mapping[str, Any]) -> str:
    return f"/functions/{quote(given['app'], safe='')}/{quote(given['function'], safe='')}"


ACTIONS: Mapping[str, Action] = {
    "runs.cancel": Action(
        title=T.confirm_cancel, verb=T.cancel_run, effect=T.cancel_effect,
        shown_after=lambda given, answer: run_path(given["run_id"]),
    ),
    "runs.rerun": Action(
        title=T.confirm_rerun, verb=T.rerun, effect=T.rerun_effect,
        inputs=(Input("data", T.edited_data, "json"), Input("output", T.edited_output, "json")),
        shown_after=lambda given, answer: run_path(answer["run_id"]),
    ),
    "signals.send": Action(
        title=T.signal, verb=T.send, effect="", inputs=(Input("data", T.data, "json"),),
        shown_after=lambda given, answer: run_path(answer["run_id"]),
    ),
    "events.send": Action(
        title=T.event_send, verb=T.send, effect="", inputs=(Input("name", T.name), Input("data", T.data_json, "json")),
        shown_after=lambda given, answer: f"/events/{quote(answer['uid'], safe='')}?sent",
    ),
    "functions.pause": Action(
        title=T.confirm_pause, verb=T.pause, effect=T.pause_effect, shown_after=lambda given, answer: function_path(given)
    ),
    "functions.resume": Action(
        title=T.confirm_resume, verb=T.resume, effect="", inputs=(Input("replay_skipped", T.replay_skipped, "check"),),
        shown_after=lambda given, answer: function_path(given),
    ),
    "functions.invoke": Action(
        title=T.invoke, verb=T.start, effect="", inputs=(Input("data", T.data_json, "json"),),
        shown_after=lambda given, answer: run_path(answer["run_id"]),
    ),
    "queues.pause": Action(
        title=T.confirm_queue_pause, verb=T.pause, effect=T.queue_pause_effect, shown_after=lambda given, answer: "/queues"
    ),
    "queues.resume": Action(
        title=T.confirm_queue_resume, verb=T.resume, effect="", shown_after=lambda given, answer: "/queues"
    ),
}  # fmt: skip


def action_named(name: str) -> Action:
    """The action. Raises Problem."""
    if (action := ACTIONS.get(name)) is None:
        raise Problem(Kind.NOT_FOUND, f"there is no action {name!r:.80}")
    return action


def fields_of_form(action: Action, form: Mapping[str, str]) -> dict[str, Any]:
    """The fields of the operation: JSON is read, what is empty is left out. Raises Problem, which names a field that is no JSON."""
    kinds = {each.name: each.kind for each in action.inputs}
    given: dict[str, Any] = {}
    for name, text in form.items():
        kind = kinds.get(name, "text")
        if name in ("reason", "back") or not text.strip():
            continue
        if kind == "check":
            given[name] = True
        elif kind == "json":
            try:
                given[name] = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                raise Problem(Kind.INVALID_FIELD, f"{name} must be JSON, got {text!r:.80}: {error}") from None
        else:
            given[name] = text
    return given
