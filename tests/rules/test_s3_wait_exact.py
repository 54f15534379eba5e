"""S3.3: runs and their events at the same time, on several workers, with messages that come twice."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.event import Event, encode_events
from taskflow.step import Step
from taskflow.testing import Harness
from tests.rules.endings import nothing_is_left_of

pytestmark = pytest.mark.usefixtures("no_bugs")

ORDERS = 60


@pytest.mark.parametrize("seed", range(4))
async def test_each_run_gets_its_event_once_whichever_comes_first(app: TaskFlow, seed: int) -> None:
    """S3.3: with lookback; an event and the run that waits for it start at random, a few ms apart."""
    chance = random.Random(seed)

    @app.function()
    async def pay(ctx: Context[Step], step: Step) -> Any:
        order = ctx.event.data["order"]
        await step.run("prepare", asyncio.sleep, chance.random() * 0.005)
        arguments: dict[str, Any] = (
            {"match": "data.order"},
            {"if_exp": "async.data.order == event.data.order && async.data.ok"},
            {"if_exp": f"async.data.order == {order} || false"},
        )[order % 3]
        name = ("shop/paid", "shop/*", ["shop/refused", "shop/paid"])[order % 2]
        first = await step.wait_for_event("first", name, "1d", lookback="1h", **arguments)
        again = await step.wait_for_event("again", name, "1h", lookback="1h", **arguments)
        return [first and first.data["order"], again and again.data["order"]]

    async def start(order: int) -> Any:
        await asyncio.sleep(chance.random() * 0.05)
        return await pay.ainvoke({"order": order})

    async def send(order: int) -> None:
        await asyncio.sleep(chance.random() * 0.08)
        event = Event("shop/paid", {"order": order, "ok": True})
        _, messages = encode_events(event, now_ms=app._link.clock.now_ms(), max_bytes=10_000)
        await app._link.async_publisher.publish_events(messages * chance.choice((1, 2, 3)))

    async with Harness(app, workers=3, concurrency=7, deadline_s=30) as harness:
        runs, _ = await asyncio.gather(
            asyncio.gather(*[start(order) for order in range(ORDERS)]),
            asyncio.gather(*[send(order) for order in range(ORDERS)]),
        )
        await harness.settled()
        await harness.advance(hours=1)
        outputs = [await run.aresult("1s") for run in runs]
        assert outputs == [[order, None] for order in range(ORDERS)]
        for run in runs:
            await nothing_is_left_of(harness, run)
