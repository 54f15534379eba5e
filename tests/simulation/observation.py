"""What the store holds, read by plain commands and put into plain values, for the checker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from taskflow.store.records import add_defaults, event_uid, whole_event
from tests.simulation.forms import read_memo
from tests.simulation.server import StoreServer

PREFIX = "tf:{0}:"
SIZES = {
    b"hash": "HLEN",
    b"set": "SCARD",
    b"zset": "ZCARD",
    b"list": "LLEN",
    b"stream": "XLEN",
}  # how to ask, by type
FINAL = ("completed", "failed", "cancelled", "skipped")


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run: its fields, and its operations by step key."""

    id: str
    fields: dict[str, str]
    steps: dict[str, dict[str, Any]]
    batch: list[str]  # its events after the first, as JSON

    @property
    def status(self) -> str:
        return self.fields.get("status", "")

    @property
    def function(self) -> str:
        return self.fields.get("function", "").partition("/")[2]


@dataclass(frozen=True, slots=True)
class Stored:
    """Runs by id, events by uid, and the names of all keys, those without a lifetime apart."""

    runs: dict[str, StoredRun]
    events: dict[str, dict[str, str]]
    keys: dict[str, int]  # name without the prefix, size
    dead_letters: tuple[str, ...] = ()  # the uids of the events


def observe(server: StoreServer) -> Stored:
    names = key_names(server)
    about = server.ask_all(
        [command for name in names for command in (("TYPE", PREFIX + name), ("PTTL", PREFIX + name))]
    )
    kinds = dict(zip(names, about[::2], strict=True))
    lifetimes = dict(zip(names, about[1::2], strict=True))
    hashes = read_hashes(server, [name for name in names if kinds[name] == b"hash"])
    lasting = [name for name in names if lifetimes[name] < 0]
    sizes = server.ask_all([(SIZES.get(kinds[name], "EXISTS"), PREFIX + name) for name in lasting])
    events = {
        uid: {field: value.decode() for field, value in whole_event(uid, hashes[name]).items()}
        for name in names
        if (uid := name.removeprefix("event:")) != name
    }
    runs = {
        id: StoredRun(
            id,
            whole_run(id, hashes[name], events),
            {key: read_memo(packed) for key, packed in hashes.get(f"steps:{id}", {}).items()},
            [event.decode() for event in server.ask("LRANGE", f"{PREFIX}batch:{id}", 0, -1)]
            if f"batch:{id}" in kinds
            else [],
        )
        for name in names
        if (id := name.removeprefix("run:")) != name
    }
    letters = server.ask("XRANGE", f"{PREFIX}dead_letters", "-", "+")
    bodies = [json.loads(dict(zip(fields[::2], fields[1::2], strict=True))[b"body"]) for _, fields in letters]
    # The letter of an event that did not fit is that event; that of a message has all of its events.
    uids = [event["uid"] for body in bodies for event in (body if isinstance(body, list) else [body])]
    return Stored(runs, events, dict(zip(lasting, map(int, sizes), strict=True)), tuple(uids))


def whole_run(run_id: str, found: dict[str, bytes], events: dict[str, dict[str, str]]) -> dict[str, str]:
    """The fields of a run, with those that its hash does not say."""
    fields = dict(found)
    add_defaults(fields)
    event = events.get(event_uid(run_id, fields.get("uid")), {}).get("event")
    if event is not None:
        fields.setdefault("event", event.encode())
    return {field: value.decode(errors="replace") for field, value in fields.items()}


def key_names(server: StoreServer) -> list[str]:
    return sorted(key.decode().removeprefix(PREFIX) for key in server.ask("KEYS", f"{PREFIX}*"))


def read_hashes(server: StoreServer, names: list[str]) -> dict[str, dict[str, bytes]]:
    found = server.ask_all([("HGETALL", PREFIX + name) for name in names])
    return {
        name: {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}
        for name, flat in zip(names, found, strict=True)
    }


def kept_runs(server: StoreServer) -> set[str]:
    """The ids of all runs that are there."""
    return {name.removeprefix("run:") for name in key_names(server) if name.startswith("run:")}


def untold(server: StoreServer, run_id: str) -> list[str]:
    """Operations of a run that are over, and have no place in the order in which its handler hears of them."""
    flat = server.ask("HGETALL", f"{PREFIX}steps:{run_id}")
    memos = {flat[i].decode(): read_memo(flat[i + 1]) for i in range(0, len(flat), 2)}
    return [
        key
        for key, memo in memos.items()
        if memo.get("state") in ("done", "failed") and memo.get("order") is None
    ]


def has_live_runs(server: StoreServer) -> bool:
    """Whether a run is not final."""
    statuses = server.ask_all([("HGET", key, "status") for key in server.ask("KEYS", f"{PREFIX}run:*")])
    return any(status is None or status.decode() not in FINAL for status in statuses)


def is_outbox_empty(server: StoreServer) -> bool:
    return bool(server.ask("ZCARD", f"{PREFIX}outbox") == 0)
