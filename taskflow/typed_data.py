"""Reads the data of events in the types of a function's triggers. Rule S11.2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskflow.errors import InvalidEvent
from taskflow.event import INVOKED, Event
from taskflow.event_type import EventType, TypedEvent, type_of
from taskflow.function import FunctionSpec, InvokeData
from taskflow.triggers import TriggerEvent
from taskflow.types import JsonObject


def read_data(spec: FunctionSpec, name: str, data: JsonObject, v: str | None) -> Any:
    """The data of an event that starts the function, in the type of its trigger, or as it is when there is none.

    What an invoke gives is of the first type that it fits. Raises InvalidEvent.
    """
    events = [trigger for trigger in spec.triggers if isinstance(trigger, TriggerEvent)]
    if name != INVOKED:
        kind = next((each.kind for each in events if each.event == name and each.kind is not None), None)
        return data if kind is None else kind.parse(data, v)
    kinds = [each.kind for each in events if each.kind is not None]
    # A function that takes plain events too takes plain data.
    takes_plain = len(kinds) < len(events)
    return read_first(spec, kinds, data, v, takes_plain=takes_plain) if kinds else data


def read_first(
    spec: FunctionSpec, kinds: Sequence[EventType], data: JsonObject, v: str | None, *, takes_plain: bool
) -> Any:
    problems = []
    for kind in kinds:
        try:
            return kind.parse(data, v)
        except InvalidEvent as error:
            problems.append(str(error))
    if takes_plain:
        return data
    raise InvalidEvent(
        f"the data with which {spec.id} was invoked is none of its events: {' | '.join(problems)}"
    )


def invoke_event(spec: FunctionSpec, data: InvokeData, **fields: Any) -> Event:
    """The event of a run that is invoked with a JSON object or a model. Raises InvalidEvent if the function can't read it."""
    if isinstance(data, TypedEvent):
        kind = type_of(type(data))
        event = Event(INVOKED, kind.dump(data), v=kind.v, **fields)
    else:
        event = Event(INVOKED, {} if data is None else data, **fields)
    if spec.event_types:
        read_data(spec, INVOKED, event.data, event.v)
    return event
