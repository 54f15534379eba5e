"""Reads events from the store as views, with what each of them did. Rule S10.2."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping
from dataclasses import replace

import orjson

from taskflow.codecs.codecs import Codecs
from taskflow.codecs.event_fields import shown_event
from taskflow.errors import ConfigError, EventNotFound
from taskflow.routing.listeners import Listeners
from taskflow.runs.functions import Registered, find_registered
from taskflow.runs.lookup import RUN_ID
from taskflow.sent import EventView
from taskflow.store.fields import number, text
from taskflow.store.store import Store

SKIPPED = "skipped: "
SUPERSEDED = re.compile(r"debounced: run (\S+) has a later event")


async def find_event(store: Store, event_id: str, name: str | None = None) -> EventView:
    """The view of the event with the id that `send` returned. Raises EventNotFound.

    If events of several names have the id, it is the one of `name`, or the newest.
    """
    # Together, since what is registered takes as many round trips.
    found, registered = await asyncio.gather(find_record(store, event_id, name), find_registered(store))
    if found is None:
        which = event_id if name is None else f"{event_id} of the name {name!r}"
        raise EventNotFound(
            f"there is no event {which}: check the id; an event is known once a worker has routed it, and removed after the "
            "retention"
        )
    uid, record = found
    view = event_view(uid, record, store.codecs)
    return replace(view, unmet=unmet_conditions(view, record.get("event"), registered))


async def find_record(
    store: Store, event_id: str, name: str | None
) -> tuple[str, Mapping[str, bytes]] | None:
    for uid in await store.history.uids_of(event_id, name):
        record = await store.history.event(uid)
        if record and name in (None, text(record, "name")):
            return uid, record
    return None


def unmet_conditions(view: EventView, wire: bytes | None, registered: Registered) -> dict[str, str]:
    """By function, as it is registered now: why the event did not start it, though it listens to events of this name."""
    if wire is None or view.duplicate_of:
        return {}
    listeners = Listeners([])
    for each in registered.functions:
        # An expression that another version of taskflow wrote may not be readable here.
        with contextlib.suppress(ConfigError):
            listeners.listen(each.spec)
    told = {*view.started, *view.skipped, *view.superseded}
    return {fn: why for fn, why in listeners.objections(orjson.loads(wire)).items() if fn not in told}


async def recent_events(
    store: Store, *, limit: int, name: str | None = None, before_uid: str | None = None
) -> list[EventView]:
    """The newest events of all names, or of one, newest first; after the event `before_uid`. Raises EventNotFound for that one."""
    before_seq = None
    if before_uid is not None:
        before_seq = number(await store.history.event(before_uid), "seq")
        if before_seq is None:
            raise EventNotFound(
                f"the list can't go on after event {before_uid}, which has been removed: begin anew"
            )
    uids = await store.history.recent_events(limit=limit, name=name, before_seq=before_seq)
    records = await asyncio.gather(*[store.history.event(uid) for uid in uids])
    return [
        event_view(uid, record, store.codecs) for uid, record in zip(uids, records, strict=True) if record
    ]


def event_view(uid: str, record: Mapping[str, bytes], codecs: Codecs) -> EventView:
    """The view of an event; `record` is its hash."""
    wire = shown_event(codecs, orjson.loads(record.get("event") or b"{}"))
    outcomes = {
        name.removeprefix("fn:"): text(record, name) for name in sorted(record) if name.startswith("fn:")
    }
    waits = [name.removeprefix("wait:").split(":", 1) for name in sorted(record) if name.startswith("wait:")]
    return EventView(
        id=wire.get("id", uid), uid=uid, name=text(record, "name"), data=wire.get("data", {}), ts=wire.get("ts", 0),
        user=wire.get("user"), v=wire.get("v"), headers=wire.get("headers", {}),
        received_ms=number(record, "received") or 0,
        duplicate_of=text(record, "duplicate_of") or None,
        started={fn: told for fn, told in outcomes.items() if RUN_ID.fullmatch(told)},
        skipped={fn: told.removeprefix(SKIPPED) for fn, told in outcomes.items() if told.startswith(SKIPPED)},
        superseded={fn: found[1] for fn, told in outcomes.items() if (found := SUPERSEDED.fullmatch(told))},
        resumed=tuple((run_id, key) for run_id, key in waits),
        cancelled=tuple(name.removeprefix("cancel:") for name in sorted(record) if name.startswith("cancel:")),
    )  # fmt: skip
