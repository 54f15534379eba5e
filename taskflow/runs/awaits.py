"""What ends a wait: the names of the events, or of the signal, and the data that an event must have for it. Rules S3.3, S3.4."""

from __future__ import annotations

import orjson

from taskflow.expressions.matching import NOTHING_EQUAL
from taskflow.store.keys import SEPARATOR
from taskflow.store.operation import EVENT, SIGNAL, WAIT, Operation
from taskflow.types import Json, JsonObject


def awaited(op: Operation) -> tuple[str, ...]:
    """The names of the events, or of the signal, of which any one ends the wait."""
    if op.state != WAIT:
        return ()
    if op.kind == SIGNAL:
        return ((op.signal or "").partition(SEPARATOR)[2],)
    return tuple(op.events or ()) if op.kind == EVENT else ()


def awaited_data(op: Operation) -> JsonObject:
    """The least data of an event that meets the equality of the wait; empty if there is none, or if it is kept as a hash."""
    if op.state != WAIT or not op.path or not op.token or op.token == NOTHING_EQUAL:
        return {}
    where, *names = op.path.split(".")
    if where != "data" or not names:
        return {}
    try:
        value: Json = orjson.loads(op.token.removeprefix(f"{op.path}="))
    except orjson.JSONDecodeError:
        return {}
    for name in reversed(names):
        value = {name: value}
    assert isinstance(value, dict)
    return value
