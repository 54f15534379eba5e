"""S1.7: who may write to the broker, and not read the store, can't take the place of what taskflow is about to start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.event import Event
from taskflow.step import Step
from taskflow.store.keys import SEPARATOR, Keys
from taskflow.store.store import Store
from taskflow.testing import Harness
from taskflow.triggers import TriggerCron, TriggerEvent
from taskflow.values.ids import derive_ulid

HOUR_MS = 3_600_000

Secret = Callable[[Harness], bytes]


def guessed(harness: Harness) -> bytes:
    return b""


def known(harness: Harness) -> bytes:
    return harness.store.registry.secret


async def forge(harness: Harness, app: TaskFlow, uid: str, name: str, data: dict[str, Any]) -> None:
    """Write an event with this uid to the broker, as anybody may who can write there."""
    event = {"uid": uid, "id": uid, "name": name, "data": data, "ts": harness.clock.now_ms()}
    await app._link.async_publisher.publish_events([orjson.dumps([event])])
    await harness.settled()


@pytest.mark.parametrize(
    ("secret", "outputs"), [(guessed, ["go", "taskflow/scheduled.timer"]), (known, ["go"])]
)
async def test_an_event_cannot_take_the_place_of_a_tick(
    app: TaskFlow, secret: Secret, outputs: list[str]
) -> None:
    """It could, if the secret were known: that is all that keeps them apart."""

    @app.function(trigger=[TriggerEvent("go"), TriggerCron("0 * * * *")])
    async def report(ctx: Context[Step]) -> str:
        return ctx.event.name

    async with Harness(app) as harness:
        tick_ms = harness.clock.now_ms() // HOUR_MS * HOUR_MS + HOUR_MS
        source = SEPARATOR.join((report.id, "0 * * * *", str(tick_ms)))
        await forge(harness, app, derive_ulid(source, tick_ms, secret=secret(harness)), "go", {})
        await harness.advance(ms=tick_ms - harness.clock.now_ms() + 1)
        runs = await harness.runs(report)
        assert sorted([await run.aresult() for run in runs]) == outputs


@pytest.mark.parametrize(("secret", "outputs"), [(guessed, ["forged", "true"]), (known, ["forged"])])
async def test_an_event_cannot_take_the_place_of_what_a_run_sends(
    app: TaskFlow, secret: Secret, outputs: list[str]
) -> None:
    @app.function(trigger="order")
    async def order(ctx: Context[Step], step: Step) -> None:
        await step.sleep("until it is forged", "1h")
        await step.send_event("tell", Event("told", {"text": "true"}))

    @app.function(trigger="told")
    async def hear(ctx: Context[Step]) -> str:
        return str(ctx.event.data["text"])

    async with Harness(app) as harness:
        sent = await harness.send("order", {})
        run = await harness.run_of(order, sent[0])
        born_ms = int((await harness.view(run)).created_ms)
        uid = derive_ulid(f"{run.id}:tell:0", born_ms, secret=secret(harness))
        await forge(harness, app, uid, "told", {"text": "forged"})
        await harness.advance(hours=1)
        assert sorted([await each.aresult() for each in await harness.runs(hear)]) == outputs


async def test_all_processes_of_a_deployment_have_one_secret_and_each_deployment_its_own(
    valkey_url: str,
) -> None:
    one, other, elsewhere = [
        await Store.open(valkey_url, namespace=name) for name in ("live", "live", "staging")
    ]
    try:
        assert one.registry.secret == other.registry.secret != elsewhere.registry.secret
        assert len(one.registry.secret) == 32
        assert (
            one.registry.derive_uid("x", 5)
            == other.registry.derive_uid("x", 5)
            != elsewhere.registry.derive_uid("x", 5)
        )
    finally:
        for store in (one, other, elsewhere):
            await store.close()


async def test_a_store_that_was_emptied_gets_the_secret_back(valkey_url: str) -> None:
    """From whoever registers again: what a run sent before is not sent under another id."""
    store = await Store.open(valkey_url)
    try:
        secret = store.registry.secret
        await store.client.call("DEL", f"{Keys().prefix}secret", f"{Keys().prefix}version")
        await store.check_version()
        newcomer = await Store.open(valkey_url)
        assert newcomer.registry.secret == secret
        await newcomer.close()
    finally:
        await store.close()
