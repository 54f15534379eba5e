"""Waits for events: how they are indexed, and which of an event's values find them. Rule S3.3.

A wait with an equality stands in the index under the value that the event must have, so an event looks up those that it meets
and never walks through the others. What an index can't say stays as CEL, and is evaluated for the few that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from taskflow.errors import NonRetriableError
from taskflow.expressions.cel import compile_expression
from taskflow.expressions.equalities import split_equality
from taskflow.store.claims import Hint, parse_hints
from taskflow.store.keys import SEPARATOR
from taskflow.store.routing import Arrival, FoundWaits, Routing
from taskflow.triggers import check_event_name
from taskflow.values.tokens import token_of

MISSING = object()
VARIABLES = ("event", "async")
NOTHING_EQUAL = (
    "\x00nothing"  # the token of a wait whose own event lacks the value to share: no event finds it
)
LOOK_AT = 500  # waits in one script, so that an event that thousands wait for does not block the store


@dataclass(frozen=True, slots=True)
class WaitPlan:
    """A wait as it is stored."""

    events: list[str]
    path: str | None  # of the value that the event must have
    token: str | None  # that, as "path=value"
    condition: str | None  # CEL that must hold too

    def is_met_by(self, event: dict[str, Any], *, run_event: dict[str, Any]) -> bool:
        """Whether an event of one of the names ends the wait, as the index would find it."""
        if self.path is not None and tokens_of(event, [self.path]) != [self.token]:
            return False
        return self.condition is None or meets_condition(self.condition, run_event=run_event, event=event)


def plan_wait(
    step_id: str, events: Sequence[str], match: str | None, if_exp: str | None, *, event: dict[str, Any]
) -> WaitPlan:
    """Check the arguments of a wait and work out its place in the index; `event` is the run's own wire object."""
    what = f"step.wait_for_event({step_id!r})"
    if not events:
        raise NonRetriableError(f"{what}: give the name of an event, or several")
    for name in events:
        check_event_name(name, what=what)
    if if_exp is not None:
        compile_expression(if_exp, what=f"{what} if_exp", variables=VARIABLES)
    if match is not None:
        check_path(match, what)
    return place_wait(events, match, if_exp, event=event)


def place_wait(
    events: Sequence[str], match: str | None, if_exp: str | None, *, event: dict[str, Any]
) -> WaitPlan:
    """The place in the index of a wait, or of an event that cancels a run, whose arguments are checked."""
    if match is not None:
        return WaitPlan(list(events), match, token_of_field(match, match, event), if_exp)
    equality = None if if_exp is None else split_equality(if_exp)
    if equality is None:
        return WaitPlan(list(events), None, None, if_exp)
    if equality.other_path is None:
        token = token_for(equality.path, equality.literal)
    else:
        token = token_of_field(equality.path, equality.other_path, event)
    return WaitPlan(list(events), equality.path, token, equality.residue)


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


def token_of_field(path: str, own_path: str, run_event: dict[str, Any]) -> str:
    """The token for "`path` of the event is what the run's own event has at `own_path`"."""
    value = value_at(run_event, own_path)
    return NOTHING_EQUAL if value is MISSING else token_for(path, value)


def token_for(path: str, value: Any) -> str:
    """How "this path has this value" stands in the index; equal numbers are equal, whatever their type, as in CEL."""
    return f"{path}={token_of(value)}"


def tokens_of(event: dict[str, Any], paths: Sequence[str]) -> list[str]:
    """The index entries that an event meets, among the paths that waits look at."""
    tokens = []
    for path in paths:
        if not path:
            tokens.append("")
        elif (value := value_at(event, path)) is not MISSING:
            tokens.append(token_for(path, value))
    return tokens


def lookups_of(event: dict[str, Any], wait_paths: Sequence[str]) -> list[str]:
    """What an event looks up in the index: "name:token" for each of `wait_paths`, name or pattern SEPARATOR path."""
    lookups = []
    for entry in wait_paths:
        name, _, path = entry.partition(SEPARATOR)
        lookups += [f"{name}:{token}" for token in tokens_of(event, [path])]
    return lookups


def meets_condition(condition: str, *, run_event: dict[str, Any], event: dict[str, Any]) -> bool:
    """Whether an event meets what is left of a wait's expression; an error counts as no."""
    return compile_expression(condition, what="wait", variables=VARIABLES).matches(run_event, event)


async def resume_waits(
    routing: Routing,
    arrivals: Sequence[Arrival],
    events: Sequence[dict[str, Any]],
    *,
    now_ms: Callable[[], int],
    limit: int = LOOK_AT,
) -> list[Hint]:
    """End the waits that these events meet, in the order of the events; returns the queues that have work now.

    `events` are the wire objects of `arrivals`; `limit` waits are looked at in one script. Safe to repeat: a wait that has
    ended is left alone.
    """
    hints: list[Hint] = []
    cursor = b"0"
    while arrivals:
        found = await routing.find_waits(arrivals, limit=limit, cursor=cursor, now_ms=now_ms())
        hints += found.hints
        hints += await resolve_open(routing, found, arrivals, events, now_ms=now_ms())
        if found.rest is None:
            break
        place, lookup, cursor = found.rest
        first = arrivals[place]
        arrivals = [
            Arrival(first.uid, first.seq, first.text, first.lookups[lookup:]),
            *arrivals[place + 1 :],
        ]
        events = events[place:]
    return hints


async def resolve_open(
    routing: Routing,
    found: FoundWaits,
    arrivals: Sequence[Arrival],
    events: Sequence[dict[str, Any]],
    *,
    now_ms: int,
) -> list[Hint]:
    """Evaluate what is left of the waits' expressions, and resolve those for which it holds, in one round trip."""
    replies = [
        routing.resolve_wait(wait, arrivals[wait.place], now_ms=now_ms)
        for wait in found.open
        if meets_condition(wait.condition, run_event=orjson.loads(wait.run_event), event=events[wait.place])
    ]
    return [hint for reply in replies for hint in parse_hints(await reply)]
