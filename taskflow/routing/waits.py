"""Ends the waits that an event meets: looks them up in the store, and evaluates the rest of their expressions. Rule S3.3."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson

from taskflow.expressions.matching import meets_condition, tokens_of
from taskflow.store.hints import Hint, parse_hints
from taskflow.store.keys import SEPARATOR
from taskflow.store.routing import Arrival, FoundWaits, Routing
from taskflow.types import EventFields

# waits in one call of the script, so that an event for which thousands wait does not block the store
LOOK_AT = 150


def lookups_of(event: EventFields, wait_paths: Sequence[str]) -> list[str]:
    """The index entries that an event looks up: "name:token" for each of `wait_paths` (name or pattern, SEPARATOR, path)."""
    lookups = []
    for entry in wait_paths:
        # The name of an event may contain any character, a path only those of identifiers: so split at the last separator.
        name, _, path = entry.rpartition(SEPARATOR)
        lookups += [f"{name}:{token}" for token in tokens_of(event, [path])]
    return lookups


async def resume_waits(
    routing: Routing,
    arrivals: Sequence[Arrival],
    events: Sequence[EventFields],
    *,
    now_ms: Callable[[], int],
    limit: int = LOOK_AT,
) -> list[Hint]:
    """End the waits that these events meet, in the order of the events; return hints for the queues that have work now.

    `events` are the wire objects of `arrivals`; one call of the script looks at `limit` waits. Safe to repeat: a wait that has
    ended stays as it is.
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
    events: Sequence[EventFields],
    *,
    now_ms: int,
) -> list[Hint]:
    """Evaluate the rest of the waits' expressions, and resolve the waits for which it is true, in one round trip."""
    replies = [
        routing.resolve_wait(wait, arrivals[wait.place], now_ms=now_ms)
        for wait in found.open
        if meets_condition(wait.condition, run_event=orjson.loads(wait.run_event), event=events[wait.place])
    ]
    return [hint for reply in replies for hint in parse_hints(await reply)]
