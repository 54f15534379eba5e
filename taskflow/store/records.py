"""Reads runs and events in the short form in which scripts store them (`lua/includes/event.lua`, `origin.lua`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from taskflow.store.keys import SEPARATOR

SEPARATOR_BYTE = SEPARATOR.encode()
RUN_PREFIX = b"-"  # if a run's id begins with the event's uid, only the rest of it is stored


def kept_event(uid: str, name: str, text: bytes) -> tuple[bytes, bytes]:
    """The form in which the record of an event keeps it: `ts SEP name`, its frame, and its data; else no frame and the JSON."""
    head, (middle, mark, ts) = event_head(uid, name), text.rpartition(b',"ts":')
    if mark and text.startswith(head) and ts[-1:] == b"}" and ts[:-1].isdigit():
        return b"%b%b%b" % (ts[:-1], SEPARATOR_BYTE, name.encode()), middle[len(head) :]
    return b"", text


def event_json(uid: str, frame: bytes, body: bytes) -> bytes:
    """The event as JSON, as on the wire, from the form in which its record keeps it."""
    if not frame:
        return body
    ts, _, name = frame.partition(SEPARATOR_BYTE)
    key = uid.encode()
    return b'{"uid":"%b","id":"%b","name":"%b","data":%b,"ts":%b}' % (key, key, name, body, ts)


# What `event_text` reads of a record.
TEXT_FIELDS = ("frame", "data", "event")


def event_text(uid: str, values: Sequence[bytes | None]) -> bytes | None:
    """The event as JSON, from TEXT_FIELDS of its record; None when there is no record."""
    frame, data, event = values
    body = event if data is None else data
    return None if body is None else event_json(uid, frame or b"", body)


def event_head(uid: str, name: str) -> bytes:
    return f'{{"uid":"{uid}","id":"{uid}","name":"{name}","data":'.encode()


def whole_event(uid: str, fields: Mapping[str, bytes]) -> dict[str, bytes]:
    """A record with its text, its name, its place and its time in fields of their own, and with whole ids of runs."""
    whole = {name: value for name, value in fields.items() if name not in ("at", *TEXT_FIELDS)}
    for name, value in whole.items():
        if name.startswith("fn:") and value.startswith(RUN_PREFIX):
            whole[name] = uid.encode() + value
    if "at" in fields:
        seq, _, whole["received"] = fields["at"].partition(b"-")
        if seq:
            whole["seq"] = seq
    text = event_text(uid, [fields.get(name) for name in TEXT_FIELDS])
    if text is not None:
        whole["event"] = text
        whole["name"] = orjson.loads(text)["name"].encode()
    return whole


def event_uid(run_id: str, uid: bytes | None = None) -> str:
    """The uid of a run's event: the run's field `uid`, or the beginning of its id."""
    return uid.decode() if uid else run_id.partition("-")[0]


# The values of fields that the hash of a run leaves out.
DEFAULTS = {"queue": b"default", "cause": b"event"}


def add_defaults(fields: dict[str, bytes], names: Sequence[str] = ()) -> None:
    """Add the defaults to the fields that were read of a run: to all fields, or to the fields of these names."""
    if not fields:
        return
    for name, value in DEFAULTS.items():
        if not names or name in names:
            fields.setdefault(name, value)
    if (not names or "output" in names) and fields.get("status") == b"completed":
        fields.setdefault("output", b"null")
