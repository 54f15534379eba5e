"""`step.wait_for_event`: waits for an event by its name, by a value that both events share, or by an expression. Rule S3.3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskflow.encrypted_fields import check_expression, check_match
from taskflow.errors import NonRetriableError
from taskflow.event import ReceivedEvent
from taskflow.event_type import EventName, name_and_type
from taskflow.expressions.cel import compile_expression
from taskflow.expressions.matching import NOTHING_EQUAL, VARIABLES, WaitPlan, place_wait
from taskflow.expressions.paths import Path
from taskflow.steps.host import StepHost
from taskflow.steps.settle import settle, take_outcome
from taskflow.store.operation import EVENT, WAIT, Operation
from taskflow.triggers import check_event_name
from taskflow.types import Duration, EventFields
from taskflow.values.durations import parse_duration_ms
from taskflow.values.text import short


async def wait_for_event(
    host: StepHost, step_id: str, events: Sequence[EventName], timeout: Duration, match: str | None, if_exp: str | None,
    lookback: Duration | None,
) -> ReceivedEvent[Any] | None:  # fmt: skip
    what = f"step.wait_for_event({step_id!r})"
    timeout_ms = parse_duration_ms(timeout, what=f"{what} timeout")
    lookback_ms = None if lookback is None else parse_duration_ms(lookback, what=f"{what} lookback")
    names_and_types = [name_and_type(event) for event in events]
    names = [name for name, _ in names_and_types]
    plan = plan_wait(
        step_id, names, match, if_exp, event=host.run.input.event_obj, encrypted=host.codecs.event_fields
    )
    call = await host.begin(step_id, EVENT)
    now_ms = host.now_ms()
    op = Operation(
        EVENT, WAIT, call.index, started=now_ms, due=now_ms + timeout_ms, events=plan.events, path=plan.path,
        token=plan.token, condition=plan.condition,
    )  # fmt: skip
    if lookback_ms is None or call.known is not None:
        found = await settle(host, call, op)
    else:
        if not await host.look_back(call, op, plan, since_ms=now_ms - lookback_ms):
            op = await host.wait(call, op, is_stored=True)
        found = await take_outcome(host, call, op)
    if found is None:
        return None
    event = ReceivedEvent.from_wire(found)
    host.run.input.had.add(event.uid)
    received = await host.received(event)
    kind = dict(names_and_types).get(event.name)
    if kind is not None:
        received.data = kind.parse(received.data, received.v)
    return received


def plan_wait(
    step_id: str, events: Sequence[str], match: str | None, if_exp: str | None, *, event: EventFields,
    encrypted: Sequence[Path] = (),
) -> WaitPlan:  # fmt: skip
    """Check the arguments of a wait, and plan its place in the index; `event` is the wire object of the run's own event."""
    what = f"step.wait_for_event({step_id!r})"
    if not events:
        raise NonRetriableError(f"{what}: give the name of an event, or several")
    for name in events:
        check_event_name(name, what=what)
    if if_exp is not None:
        compile_expression(if_exp, what=f"{what} if_exp", variables=VARIABLES)
    if match is not None:
        check_path(match, what)
    if encrypted:
        check_expression(if_exp, encrypted, what=f"{what} if_exp")
        check_match(match, encrypted, what=f"{what} match")
    return place_wait(events, match, if_exp, event=event)


def check_path(path: str, what: str) -> None:
    if all(part.isidentifier() for part in path.split(".")):
        return
    raise NonRetriableError(
        f"{what} match must be a path into both events, like 'data.order_id', but is {path!r}. For anything else use if_exp."
    )


def describe(op: Operation) -> str:
    return f"event {' or '.join(op.events or [])}{match_text(op)}"


def match_text(op: Operation) -> str:
    """The condition that the event must meet, in words: " with data.order_id=7"."""
    if op.token == NOTHING_EQUAL:
        return f" with {op.path} equal to what this run's event lacks"
    terms = [short(text, 60) for text in (op.token, op.condition) if text]
    return f" with {' and '.join(terms)}" if terms else ""
