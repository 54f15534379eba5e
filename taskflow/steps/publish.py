"""`step.publish`: publishes a message once, however often it is tried, since its uid derives from run and step. Rule S17.1."""

from __future__ import annotations

from typing import Any

from taskflow.channel import TopicRef
from taskflow.steps.call import StepCall
from taskflow.steps.host import StepHost
from taskflow.steps.run import run_call
from taskflow.store.operation import PUBLISH
from taskflow.values.ids import ulid_ms


async def publish(host: StepHost, step_id: str, topic: TopicRef[Any], data: Any) -> None:
    call = await host.begin(step_id, PUBLISH)
    run = host.run
    uid = host.derive_uid(f"{run.run_id}:{call.key}:message", ulid_ms(run.input.event.uid))

    async def publish_once() -> None:
        await run.function._app._apublish_of_run(topic, data, run_id=run.run_id, uid=uid)

    await run_call(host, StepCall(call, publish_once), PUBLISH)
