"""`step.send_event`: sends one set of events, however often it is tried, since their ids derive from run and step. Rule S3.5."""

from __future__ import annotations

from collections.abc import Sequence

from taskflow.event import AnyEvent, Event, as_event, encode_event
from taskflow.steps.call import StepCall
from taskflow.steps.host import StepHost
from taskflow.steps.run import run_call
from taskflow.store.operation import SEND
from taskflow.values.ids import ulid_ms


async def send_event(host: StepHost, step_id: str, events: Sequence[AnyEvent]) -> list[str]:
    call = await host.begin(step_id, SEND)
    born_ms = ulid_ms(host.run.input.event.uid)

    async def encode_and_publish(events: Sequence[Event]) -> list[str]:
        ids, bodies = [], []
        for place, event in enumerate(events):
            public_id, body = encode_event(
                event, now_ms=host.now_ms(), max_bytes=host.config.max_event_bytes,
                uid=host.derive_uid(f"{host.run.run_id}:{call.key}:{place}", born_ms), inherited=host.run.input.event.headers,
                codecs=host.codecs,
            )  # fmt: skip
            ids.append(public_id)
            bodies.append(body)
        await host.publish(bodies)
        return ids

    async def publish() -> list[str]:
        checked = [as_event(event, host.run.function._types) for event in events]
        return await host.send(checked, encode_and_publish)

    sent: list[str] = await run_call(host, StepCall(call, publish), SEND)
    return sent
