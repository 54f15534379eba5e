"""Starts a run for an event of the test's choice, past triggers and flow control."""

from __future__ import annotations

import orjson

from taskflow.app import TaskFlow
from taskflow.event import Event, encode_event
from taskflow.flow.plan import plan_flow
from taskflow.function import FunctionSpec
from taskflow.store.routing import RunPlan
from taskflow.types import RunId
from taskflow.values.ids import new_ulid, run_id_for


async def begin_run(app: TaskFlow, spec: FunctionSpec, event: Event) -> RunId:
    """Make one run of the function whose `ctx.event` is this. Raises InvalidEvent, StoreUnavailable."""
    now_ms = app.clock.now_ms()
    uid = new_ulid(now_ms)
    _, encoded = encode_event(
        event, now_ms=now_ms, max_bytes=app.config.max_event_bytes, uid=uid, internal=True
    )
    plan = RunPlan(
        spec.id,
        spec.queue,
        run_id_for(uid, spec.id),
        start_timeout_ms=spec.timeouts.start_ms or 0,
        finish_timeout_ms=spec.timeouts.finish_ms or 0,
        flow=plan_flow(spec.id, spec.flow, orjson.loads(encoded), is_direct=True),
    )
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
