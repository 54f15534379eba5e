"""Reading runs and events in Python: `app.runs`, `app.event`. Rule S10.2."""

from __future__ import annotations

import asyncio

import pytest

from taskflow import ConfigError, Context, Debounce, Event, EventNotFound, NonRetriableError, Step, TaskFlow
from taskflow.testing import Harness


def add_functions(app: TaskFlow) -> None:
    @app.function(trigger="order")
    async def fulfil(ctx: Context[Step], step: Step) -> str:
        if ctx.event.data.get("bad"):
            raise NonRetriableError("no such order")
        await step.wait_for_event("paid", "paid", "1h", match="data.n")
        return "done"

    @app.function(trigger="order")
    async def greet(ctx: Context[Step]) -> None: ...


async def test_runs_are_listed_by_function_status_and_time(app: TaskFlow) -> None:
    add_functions(app)
    async with Harness(app) as harness:
        await harness.send("order", {"n": 1})
        await harness.advance(minutes=10)
        await harness.send([Event("order", {"n": 2, "bad": True}), Event("order", {"n": 3})])
        assert [run.function for run in await app.aruns()].count("shop/greet") == 3
        assert len(await app.aruns("shop/fulfil")) == 3
        assert len(await app.aruns("shop/fulfil", since="5m")) == 2
        (failed,) = await app.aruns(app.functions["shop/fulfil"], status="failed")
        assert str(failed.error) == "NonRetriableError: no such order"
        live_or_failed = await app.aruns("shop/fulfil", status=["waiting", "failed"], limit=2)
        assert len(live_or_failed) == 2
        with pytest.raises(ConfigError, match="did you mean 'shop/fulfil'"):
            await app.aruns("shop/fulfill")
        with pytest.raises(ConfigError, match="status must name some of scheduled, "):
            await app.aruns(status="done")


async def test_an_event_leads_to_its_runs(app: TaskFlow) -> None:
    add_functions(app)
    async with Harness(app) as harness:
        (event_id,) = await harness.send(
            "order", {"n": 7}, id="order-7", user={"id": 1}, headers={"tenant": "acme"}
        )
        (paid_id,) = await harness.send("paid", {"n": 7})
        fulfil, greet = await app.event(event_id).aruns()
        assert await fulfil.aresult("1s") == "done"
        view = await app.event("order-7").aview()
        assert (view.name, view.data, view.user) == ("order", {"n": 7}, {"id": 1})
        assert view.headers == {"tenant": "acme"}
        assert view.started == {"shop/fulfil": fulfil.id, "shop/greet": greet.id}
        assert (await app.event(paid_id).aview()).resumed == ((fulfil.id, "paid"),)
        unheard = await app.event((await harness.send("unheard"))[0]).aview()
        assert unheard.came_to_nothing
        with pytest.raises(EventNotFound, match="there is no event order-8: check the id"):
            await app.event("order-8").aview()


async def test_an_event_that_a_later_one_has_displaced_says_so(app: TaskFlow) -> None:
    @app.function(trigger="save", debounce=Debounce("10s"))
    async def save(ctx: Context[Step]) -> None: ...

    async with Harness(app) as harness:
        (first,) = await harness.send("save", {"n": 1})
        await harness.advance(seconds=1)
        (second,) = await harness.send("save", {"n": 2})
        (run,) = await app.event(second).aruns()
        view = await app.event(first).aview()
        assert (view.started, view.superseded) == ({}, {"shop/save": run.id})


async def test_sync_code_reads_the_same(app: TaskFlow) -> None:
    add_functions(app)
    async with Harness(app) as harness:
        (event_id,) = await harness.send("order", {"n": 7})

        def read() -> tuple[int, set[str]]:
            handles = app.event(event_id).runs()
            return len(app.runs(limit=1)), {run.view().function for run in handles}

        assert await asyncio.to_thread(read) == (1, {"shop/fulfil", "shop/greet"})
        assert (await app.event(event_id).aview()) == await asyncio.to_thread(app.event(event_id).view)
