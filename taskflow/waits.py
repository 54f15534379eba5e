"""Waits for events: how they are indexed, and which of an event's values find them. Rule S3.3.

A wait with `match` stands in the index under the value that the event must have, so an event looks up those that it meets
and never walks through the others. What an index can't say stays as CEL, and is evaluated for the few that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from taskflow.errors import NonRetriableError
from taskflow.expressions.cel import compile_expression
from taskflow.triggers import check_event_name

MAX_TOKEN_CHARS = 200
MAX_EXACT_FLOAT = 2.0**63
MISSING = object()
VARIABLES = ("event", "async")


@dataclass(frozen=True, slots=True)
class WaitPlan:
    """A wait as it is stored."""

    events: list[str]
    path: str | None  # of the value that both events must share
    token: str | None
    condition: str | None  # CEL that must hold too


def plan_wait(
    step_id: str, events: Sequence[str], match: str | None, if_exp: str | None, *, event: dict[str, Any]
) -> WaitPlan:
    """Check the arguments of a wait and work out its place in the index; `event` is the run's own wire object."""
    what = f"step.wait_for_event({step_id!r})"
    if not events:
        raise NonRetriableError(f"{what}: give the name of an event, or several")
    for name in events:
        check_event_name(name, what=what)
        if name.endswith("*"):
            raise NonRetriableError(f"{what}: {name!r} is a pattern, but a wait takes whole event names")
    if if_exp is not None:
        compile_expression(if_exp, what=f"{what} if_exp", variables=VARIABLES)
    if match is None:
        return WaitPlan(list(events), None, None, if_exp)
    check_path(match, what)
    value = value_at(event, match)
    # A value that is missing here equals nothing, so nothing may find this wait.
    token = "\x00nothing" if value is MISSING else token_for(match, value)
    return WaitPlan(list(events), match, token, if_exp)


def check_path(path: str, what: str) -> None:
    if all(part.isidentifier() for part in path.split(".")):
        return
    raise NonRetriableError(
        f"{what} match must be a path into both events, like 'data.order_id', but is {path!r}. For anything else use if_exp."
    )


def value_at(event: dict[str, Any], path: str) -> Any:
    """The value at "data.order.id", or MISSING."""
    value: Any = event
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return MISSING
        value = value[part]
    return value


def token_for(path: str, value: Any) -> str:
    """How "this path has this value" stands in the index; equal numbers are equal, whatever their type, as in CEL."""
    text = orjson.dumps(with_whole_numbers(value), option=orjson.OPT_SORT_KEYS).decode()
    if len(text) > MAX_TOKEN_CHARS:
        text = "#" + blake2b(text.encode(), digest_size=16).hexdigest()
    return f"{path}={text}"


def with_whole_numbers(value: Any) -> Any:
    """`value` with an int for each float that is whole, lists and objects through."""
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_EXACT_FLOAT:
        return int(value)
    if isinstance(value, list):
        return [with_whole_numbers(item) for item in value]
    if isinstance(value, dict):
        return {name: with_whole_numbers(item) for name, item in value.items()}
    return value


def tokens_of(event: dict[str, Any], paths: Sequence[str]) -> list[str]:
    """The index entries that an event meets, among the paths that waits for its name look at."""
    tokens = []
    for path in paths:
        if not path:
            tokens.append("")
        elif (value := value_at(event, path)) is not MISSING:
            tokens.append(token_for(path, value))
    return tokens


def meets_condition(condition: str, *, run_event: bytes, event: dict[str, Any]) -> bool:
    """Whether an event meets what is left of a wait's expression; an error counts as no."""
    expression = compile_expression(condition, what="wait", variables=VARIABLES)
    return expression.matches(orjson.loads(run_event), event)
