"""Reads the events of a run in the types of its function, before the handler is called. Rule S11.2.

Only the process that executes the run has the classes, so what comes from senders without them is checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson

from taskflow.engine.execution import Execution
from taskflow.errors import InvalidEvent
from taskflow.event import ReceivedEvent
from taskflow.observability.failures import describe_error
from taskflow.store.claims import Verdict
from taskflow.store.refusals import RefusedEvent
from taskflow.typed_data import read_data


class EventsRefused(InvalidEvent):
    """The function takes none of the run's events, which is no failure of the run: it is to end as skipped."""

    def __init__(self, message: str, events: Sequence[RefusedEvent]) -> None:
        super().__init__(message)
        self.events = events


async def received(run: Execution, events: Sequence[ReceivedEvent]) -> Sequence[ReceivedEvent]:
    """The events as the handler gets them, without those of a batch that do not fit. Raises InvalidEvent, EventsRefused."""
    spec = run.function.spec
    fitting: list[ReceivedEvent] = []
    refused: list[RefusedEvent] = []
    for event in events:
        try:
            data = read_data(spec, event.name, event.data, event.v)
        except InvalidEvent as error:
            if spec.on_invalid in (None, "fail"):
                raise
            refused.append(RefusedEvent(event.uid, str(error)))
        else:
            fitting.append(event if data is event.data else replace(event, data=data))
    if not refused:
        return fitting
    # What a run has done can't be undone: it fails if its events fit no more, since its code has changed.
    has_begun = bool(run.claimed.steps) or not run.assignment.is_whole
    if not fitting:
        reason = refused[0].reason
        raise InvalidEvent(reason) if has_begun else EventsRefused(reason, refused)
    if not has_begun:
        run.obey(await run.ask(run.owned.refuse(refused, ends=False, is_dead_letter=is_dead_letter(run))))
    return fitting


async def skip(run: Execution, refusal: EventsRefused) -> None:
    """End the run as skipped."""
    if not run.lifecycle.finishes():
        return
    verdict = await run.owned.refuse(refusal.events, ends=True, is_dead_letter=is_dead_letter(run))
    if verdict is Verdict.CANCEL:
        await run.finish("cancelled", await run.owned.cancel_reason())
        return
    if run.around is not None and verdict is not Verdict.FENCED:
        error = InvalidEvent(str(refusal))
        body = orjson.dumps(describe_error(error))
        await run.around.ends("skipped", error=error, body=body, now_ms=run.host.clock.now_ms())
    run.conclude()


def is_dead_letter(run: Execution) -> bool:
    return run.function.spec.on_invalid == "dead_letter"
