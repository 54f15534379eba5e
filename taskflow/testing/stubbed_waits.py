"""Stubs of waits: a test says what a `step.wait_for_event` or `step.wait_for_signal` gets, and nobody has to send it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from taskflow.codecs.codecs import Codecs
from taskflow.errors import ConfigError
from taskflow.event import AnyEvent, Event, encode_events
from taskflow.observability.failures import describe_error
from taskflow.signals import encode_signal
from taskflow.steps.call import Call
from taskflow.store.keys import SEPARATOR
from taskflow.store.operation import DONE, EVENT, FAILED, Operation
from taskflow.types import JsonObject


async def resolve_wait(
    stub: Callable[[JsonObject], Any],
    call: Call,
    op: Operation,
    data: JsonObject,
    codecs: Codecs,
    *,
    now_ms: int,
    max_bytes: int,
) -> None:
    """Resolve a wait with what the stub answers; None stands for a wait whose time is over.

    `data` is that of the event that started the run.
    """
    try:
        answer = stub(data)
        if inspect.isawaitable(answer):
            answer = await answer
    except Exception as error:
        op.state, op.error = FAILED, codecs.sealed_error(describe_error(error))
        return
    if answer is None:
        return
    if op.kind == EVENT:
        op.data = event_text(call.id, op, answer, now_ms=now_ms, max_bytes=max_bytes)
    else:
        name = (op.signal or "").partition(SEPARATOR)[2]
        op.data = encode_signal(name, answer, codecs, max_bytes=max_bytes)
    op.state = DONE


def event_text(step_id: str, op: Operation, answer: object, *, now_ms: int, max_bytes: int) -> bytes:
    """The event that a stub gives, as JSON: an event, or the data of one of the first name that the wait is for."""
    event: AnyEvent
    if isinstance(answer, dict):
        first = (op.events or [""])[0]
        if first.endswith("*"):
            raise ConfigError(
                f"the stub of step {step_id!r} must return an Event, as the wait is for {first!r}, which is the name of none"
            )
        event = Event(first, answer)
    else:
        event = answer  # type: ignore[assignment]
    _, (message,) = encode_events(event, now_ms=now_ms, max_bytes=max_bytes)
    return message[1:-1]
