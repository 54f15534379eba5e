"""Runs and events in the small form in which the scripts keep them (`lua/includes/event.lua`, `origin.lua`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

RUN_PREFIX = b"-"  # of a run whose id begins with the event's uid, only the rest is kept
TEXT_FIELDS = ("event", "data", "ts", "name", "received")


def event_text(uid: str, values: Sequence[bytes | None]) -> bytes | None:
    """The event as JSON, as on the wire, from TEXT_FIELDS of its record; None when there is no record."""
    event, data, ts, name, received = values
    if event is not None or data is None:
        return event
    assert ts is not None and name is not None and received is not None
    key = uid.encode()
    return b'{"uid":"%b","id":"%b","name":"%b","data":%b,"ts":%d}' % (
        key,
        key,
        name,
        data,
        int(received) + int(ts),
    )


def whole_event(uid: str, fields: Mapping[str, bytes]) -> dict[str, bytes]:
    """A record with its text in the field `event`, and with whole ids of runs."""
    text = event_text(uid, [fields.get(name) for name in TEXT_FIELDS])
    rest = {name: value for name, value in fields.items() if name not in ("event", "data", "ts")}
    for name, value in rest.items():
        if name.startswith("fn:") and value.startswith(RUN_PREFIX):
            rest[name] = uid.encode() + value
    return rest if text is None else {**rest, "event": text}


def event_uid(run_id: str, uid: bytes | None = None) -> str:
    """The event of a run: its field `uid`, or what its id begins with."""
    return uid.decode() if uid else run_id.partition("-")[0]


# What a run has whose hash does not say it.
DEFAULTS = {"queue": b"default", "cause": b"event"}


def add_defaults(fields: dict[str, bytes], names: Sequence[str] = ()) -> None:
    """Make whole what was read of a run: all of it, or the fields of these names."""
    if not fields:
        return
    for name, value in DEFAULTS.items():
        if not names or name in names:
            fields.setdefault(name, value)
    if (not names or "output" in names) and fields.get("status") == b"completed":
        fields.setdefault("output", b"null")
