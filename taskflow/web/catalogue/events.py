"""Operations on events: list, get, send."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, TypedDict, cast

from taskflow.errors import EventNotFound
from taskflow.event import Event
from taskflow.runs.events import find_event, recent_events
from taskflow.runs.lookup import find_run
from taskflow.sent import EventView
from taskflow.types import JsonObject
from taskflow.web.catalogue.fields import wanted
from taskflow.web.catalogue.operation import Desk, Scope, operation
from taskflow.web.catalogue.post import Seed
from taskflow.web.catalogue.problems import Kind
from taskflow.web.catalogue.runs import MAX_PAGE, WAIT_HELP, RunJson, parse_wait_ms, wait_for_end

FIRST_LOOK_S, LAST_LOOK_S = 0.01, 0.25  # pauses between looks whether an event was routed


class ResumedWaitJson(TypedDict):
    """A step that waited for the event."""

    run_id: str
    step: str


class EventJson(TypedDict):
    """An event, and what it did: by function the run that has it, or why there is none. Times are ms since the epoch."""

    id: str
    uid: str
    name: str
    data: dict[str, Any]
    ts: int
    user: dict[str, Any] | None
    v: str | None
    headers: dict[str, str]
    received_ms: int
    duplicate_of: str | None
    started: dict[str, str]
    skipped: dict[str, str]
    superseded: dict[str, str]
    resumed: list[ResumedWaitJson]
    cancelled: list[str]
    unmet: dict[str, str]


class EventListJson(TypedDict):
    """A page of events, newest first. `next` is the cursor of the next page; null on the last one."""

    events: list[EventJson]
    next: str | None


class SentJson(TypedDict):
    """The ids of the event; whether no function starts by its name; with `wait` the runs that it started."""

    id: str
    uid: str
    is_unheard: bool
    runs: list[RunJson] | None


@dataclass(frozen=True, slots=True)
class ListEvents:
    name: str | None = wanted("Only events of this name.", default=None)
    limit: int = wanted("At most so many.", default=20, minimum=1, maximum=MAX_PAGE)
    cursor: str | None = wanted("Where to go on: `next` of the page before.", default=None, max_chars=26)


@dataclass(frozen=True, slots=True)
class GetEvent:
    event_id: str = wanted("The id that sending answered: the sender's id, or the internal uid.")
    name: str | None = wanted(
        "Of several events with this id, that of this name; else the newest.", default=None
    )


@dataclass(frozen=True, slots=True)
class SendEvent:
    name: str = wanted("The name of the event.")
    data: JsonObject = wanted("Its data.", default=None)
    id: str | None = wanted("A second event of this name and id within 24 h starts nothing.", default=None)
    ts: int | None = wanted(
        "Its time, in ms since the epoch; in the future: when its runs start.", default=None
    )
    user: JsonObject | None = wanted("Who sends it.", default=None)
    v: str | None = wanted("The version of its shape.", default=None)
    headers: JsonObject | None = wanted(
        "Short texts by name, which all that comes of the event inherits.", default=None
    )
    wait: str | None = wanted(
        f"{WAIT_HELP} It is that of the runs that the event starts.", default=None, max_chars=32
    )


@operation("events.list", "GET", "/events", Scope.READ, Kind.EVENT_NOT_FOUND)
async def list_events(desk: Desk, request: ListEvents) -> EventListJson:
    """List the events that workers have routed, newest first."""
    async with desk.store() as (store, _):
        found = await recent_events(
            store, limit=request.limit + 1, name=request.name, before_uid=request.cursor
        )
    page = found[: request.limit]
    return {
        "events": [cast(EventJson, event.to_json()) for event in page],
        "next": page[-1].uid if len(found) > request.limit else None,
    }


@operation("events.get", "GET", "/events/{event_id}", Scope.READ, Kind.EVENT_NOT_FOUND)
async def get_event(desk: Desk, request: GetEvent) -> EventJson:
    """Show an event, and what it started, skipped, resumed and cancelled."""
    async with desk.store() as (store, _):
        found = await find_event(store, request.event_id, request.name)
    return cast(EventJson, found.to_json())


@operation(
    "events.send",
    "POST",
    "/events",
    Scope.OPERATE,
    Kind.INVALID_EVENT,
    Kind.BROKER_UNAVAILABLE,
    is_noted=False,
)
async def send_event(desk: Desk, request: SendEvent) -> SentJson:
    """Send an event; with `wait`, tell how the runs ended that it started."""
    wait_ms = None if request.wait is None else parse_wait_ms(request.wait)
    event = Event(
        request.name, request.data or {}, request.id, request.ts, request.user, request.v, request.headers
    )
    posted = await desk.post.send([event], Seed.of(desk.uid) if desk.uid else None)
    (uid,) = posted.uids
    runs = None if wait_ms is None else await runs_of(desk, uid, wait_ms)
    return {"id": event.id or uid, "uid": uid, "is_unheard": bool(posted.unheard), "runs": runs}


async def runs_of(desk: Desk, uid: str, wait_ms: int) -> list[RunJson]:
    """The runs that an event started, once they have ended or the time is over; without a worker there are none yet."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + wait_ms / 1000
    view = await routed_event(desk, uid, wait_ms / 1000)
    run_ids = sorted(view.started.values()) if view else []
    left_ms = max(0, round((until_s - loop.time()) * 1000))
    await asyncio.gather(*[wait_for_end(desk, run_id, left_ms) for run_id in run_ids])
    async with desk.store() as (store, moment):
        views = await asyncio.gather(*[find_run(store, run_id, moment) for run_id in run_ids])
    return [cast(RunJson, each.to_json(moment.now_ms)) for each in views]


async def routed_event(desk: Desk, uid: str, within_s: float) -> EventView | None:
    """The event, or for a duplicate the one before it, once a worker has routed it; None if none has `within_s`."""
    loop = asyncio.get_running_loop()
    until_s, pause_s = loop.time() + within_s, FIRST_LOOK_S
    while True:
        try:
            async with desk.store() as (store, _):
                view = await find_event(store, uid)
                return await find_event(store, view.duplicate_of) if view.duplicate_of else view
        except EventNotFound:
            if loop.time() + pause_s > until_s:
                return None
        # Nothing tells of an event that is routed, and workers need moments for it.
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LAST_LOOK_S)


OPERATIONS = (list_events, get_event, send_event)
