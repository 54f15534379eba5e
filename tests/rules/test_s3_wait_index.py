"""S3.3: patterns of names, and conditions of which an equality is looked up."""

from __future__ import annotations

from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.event import Event
from taskflow.step import Step
from taskflow.testing import Harness
from tests.rules.givens import is_waiting, waiting_function
from tests.rules.views import view

pytestmark = pytest.mark.usefixtures("no_bugs")


async def index_of(harness: Harness) -> set[str]:
    """The keys of the index of waits."""
    prefix = harness.store.keys.prefix
    keys = await harness.store.client.call("KEYS", f"{prefix}wait*")
    return {key.decode().removeprefix(prefix) for key in keys}


async def test_a_pattern_waits_for_every_name_that_begins_so(app: TaskFlow) -> None:
    """S3.3"""
    waits = waiting_function(app, "shop/order.*", match="data.id")
    async with Harness(app, workers=2) as harness:
        runs = [await harness.start(waits, {"id": n}) for n in range(3)]
        for name in ("shop/orders", "shop/order", "shop", "web/shop/order.paid"):
            await harness.send([Event(name, {"id": n}) for n in range(3)])
        assert all([await is_waiting(run) for run in runs])
        await harness.send([Event("shop/order.paid", {"id": 2}), Event("shop/order.", {"id": 0})])
        assert [await runs[n].aresult("1s") for n in (0, 2)] == [{"id": 0}, {"id": 2}]
        assert await is_waiting(runs[1])
        await harness.advance(hours=1)
        assert await index_of(harness) == set()


async def test_names_and_patterns_that_overlap_end_a_wait_once(app: TaskFlow) -> None:
    """S3.3"""

    @app.function()
    async def collect(ctx: Context[Step], step: Step) -> list[str]:
        names = []
        for _ in range(3):
            got = await step.wait_for_event("any", ["shop/*", "shop/paid", "*", "shop/pa*"], "1h")
            assert got is not None
            names.append(got.name)
        return names

    async with Harness(app) as harness:
        run = await harness.start(collect)
        for name in ("shop/paid", "shop/other", "web"):
            await harness.send(name)
        assert await run.aresult("1s") == ["shop/paid", "shop/other", "web"]
        assert await index_of(harness) == set()


async def test_an_event_whose_name_looks_like_a_pattern_is_no_pattern(app: TaskFlow) -> None:
    """S3.3"""
    exact, pattern = (
        waiting_function(app, "shop/paid", id="exact"),
        waiting_function(app, "shop/*", id="pattern"),
    )
    async with Harness(app) as harness:
        one, other = await harness.start(exact), await harness.start(pattern)
        await harness.send("shop/*", {"n": 1})
        assert await is_waiting(one)
        assert await other.aresult("1s") == {"n": 1}
        await one.acancel()


@pytest.mark.parametrize(
    ("if_exp", "token"),
    [
        ("async.data.order == event.data.order", "data.order=7"),
        ("event.data.order == async.data.order && async.data.total > 5", "data.order=7"),
        ("async.data.total > 5 && async.data.number == event.data.order", "data.number=7"),
        ("async.data.kind == 'card' && async.data.total > 5", 'data.kind="card"'),
        ("async.data.order == event.data.order || async.data.all", ""),
        ("async.data.total > 5", ""),
    ],
)
async def test_a_condition_stands_in_the_index_under_its_equality(
    app: TaskFlow, if_exp: str, token: str
) -> None:
    """S3.3: and is true for the same events as ever."""
    waits = waiting_function(app, if_exp=if_exp)
    async with Harness(app) as harness:
        run = await harness.start(waits, {"order": 7})
        assert f"waits:paid:{token}" in await index_of(harness)
        for data in ({}, {"order": 8, "number": 8, "total": 1}, {"order": "7"}, {"kind": "cash"}):
            await harness.send("paid", data)
        assert await is_waiting(run)
        met = {"order": 7.0, "number": 7, "kind": "card", "total": 6}
        await harness.send("paid", met)
        assert await run.aresult("1s") == met


async def test_only_what_is_left_of_a_condition_is_evaluated(app: TaskFlow) -> None:
    """S3.3"""
    waits = waiting_function(app, if_exp="async.data.order == event.data.order && async.data.total > 5")
    async with Harness(app) as harness:
        run = await harness.start(waits, {"order": 7})
        told = await view(harness, run)
        assert told.why == "waiting: event paid with data.order=7 and async.data.total > 5 until 01:00"
        await harness.send("paid", {"order": 7, "total": 5})
        assert await is_waiting(run)
        await harness.send("paid", {"order": 7, "total": 6})
        assert await run.aresult("1s") == {"order": 7, "total": 6}


async def test_a_condition_on_what_the_runs_event_lacks_meets_nothing(app: TaskFlow) -> None:
    """S3.3"""
    waits = waiting_function(app, if_exp="async.data.order == event.data.order")
    async with Harness(app) as harness:
        run = await harness.start(waits)
        events: list[dict[str, Any]] = [{}, {"order": None}, {"order": "\x00nothing"}]
        for data in events:
            await harness.send("paid", data)
        assert await is_waiting(run)
        await run.acancel()
