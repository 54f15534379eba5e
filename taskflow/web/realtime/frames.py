"""Frames: what a subscriber gets over the wire, as Inngest's clients read it: JSON objects with a `kind`. Rule S17.3."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from taskflow.store.messages import StoredMessage

HEARTBEAT = b": still here\n\n"


@lru_cache(maxsize=128)
def data_frame(channel: str, message: StoredMessage) -> bytes:
    """A message. The readers of a channel get it one after the other, so it is made once for all of them."""
    facts = {
        "kind": "data", "channel": channel, "topic": message.topic, "id": str(message.id),
        "created_at": iso(message.at_ms),
    }  # fmt: skip
    if message.run_id:
        facts["run_id"] = message.run_id
    # The data is JSON already.
    return b'%b,"data":%b}' % (orjson.dumps(facts)[:-1], message.data)


def after_gap(frame: bytes) -> bytes:
    """The frame of a message before which others are no longer kept."""
    return frame[:-1] + b',"is_after_gap":true}'


def state_frame(kind: str, run_id: str, data: Any, now_ms: int) -> bytes:
    """The state of a run (kind "run", topic `$run`), or of one of its steps (kind "step", topic `$step`)."""
    return orjson.dumps(
        {
            "kind": kind, "channel": run_id, "topic": f"${kind}", "run_id": run_id, "created_at": iso(now_ms), "data": data,
        }
    )  # fmt: skip


def closing_frame(reason: str) -> bytes:
    return orjson.dumps({"kind": "closing", "data": reason, "reason": reason})


def iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_event(frame: bytes, message_id: int | None = None) -> bytes:
    """A frame as a server-sent event. A browser that comes back sends the last id that it has had."""
    if message_id is None:
        return b"data: %b\n\n" % frame
    return b"id: %d\ndata: %b\n\n" % (message_id, frame)


def position_frame(channel: str, message_id: int) -> bytes:
    """Where the channel is when a subscriber comes: one who leaves before the first message goes on there."""
    return orjson.dumps({"kind": "sub", "channel": channel, "id": str(message_id)})
