"""Starts a run for an event of the test's choice, past triggers and flow control."""

from __future__ import annotations

import orjson

from taskflow.app import TaskFlow
from taskflow.event import Event, encode_event
from taskflow.function import FunctionSpec
from taskflow.routing.plan import plan_run
from taskflow.types import RunId
from taskflow.values.ids import new_ulid


async def begin_run(app: TaskFlow, spec: FunctionSpec, event: Event) -> RunId:
    """Make one run of the function whose `ctx.event` is this. Raises InvalidEvent, StoreUnavailable."""
    now_ms = app.clock.now_ms()
    uid = new_ulid(now_ms)
    _, encoded = encode_event(
        event, now_ms=now_ms, max_bytes=app.config.max_event_bytes, uid=uid, internal=True
    )
    plan = plan_run(spec, orjson.loads(encoded))
    async with app.session().deadline() as store:
        hints = await store.routing.start_run(
            plan,
            uid=uid,
            name=event.name,
            event=encoded,
            cause="event",
            version=app.config.app_version,
            now_ms=now_ms,
        )
    await app.send_hints(hints)
    return plan.run_id
