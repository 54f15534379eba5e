"""S1.3, S1.4: the id of an invoke, and the delay of a send."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import ConfigError, InvalidDuration, InvalidEvent, RunSkipped
from taskflow.event import Event
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness

pytestmark = pytest.mark.usefixtures("no_bugs")


# --- S1.3: invoke(id=...) ---


async def test_invokes_with_one_id_are_one_run_of_a_function(app: TaskFlow) -> None:
    """S1.3: whatever their data; another function with that id has a run of its own, and the id is the event's."""
    calls: list[str] = []

    @app.function
    async def charge(ctx: Context[Step]) -> Any:
        calls.append(ctx.event.id)
        return ctx.event.data

    @app.function
    async def refund(ctx: Context[Step]) -> Any:
        return "refunded"

    async with Harness(app) as harness:
        first = await charge.ainvoke({"n": 1}, id="order-7")
        again = await asyncio.gather(*[app.ainvoke("shop/charge", {"n": n}, id="order-7") for n in range(9)])
        assert {run.id for run in again} == {first.id}
        assert await first.aresult("2s") == {"n": 1}
        assert (await charge.ainvoke({"n": 2}, id="order-7")).id == first.id
        other = await charge.ainvoke({"n": 8}, id="order-8")
        assert await other.aresult("2s") == {"n": 8}
        assert await (await refund.ainvoke(id="order-7")).aresult("2s") == "refunded"
        assert len({(await charge.ainvoke()).id for _ in range(2)}) == 2
        await harness.settled()
    assert sorted(calls)[-2:] == ["order-7", "order-8"]
    assert len(calls) == 4


async def test_the_id_of_an_invoke_counts_for_24_hours(app: TaskFlow) -> None:
    """S1.3: also when its run was cancelled, or is for later."""

    @app.function
    async def charge(ctx: Context[Step]) -> None: ...

    async with Harness(app) as harness:
        first = await charge.ainvoke(id="order-7", delay="23h")
        await first.acancel()
        await harness.advance(hours=23)
        assert (await charge.ainvoke(id="order-7")).id == first.id
        await harness.advance(hours=1)
        second = await charge.ainvoke(id="order-7")
        assert second.id != first.id
        await second.aresult("2s")


async def test_an_id_has_a_run_of_a_paused_function_too(app: TaskFlow) -> None:
    """S1.3, S10.4: it was skipped, and a replay picks it up."""

    @app.function
    async def charge(ctx: Context[Step]) -> None: ...

    async with Harness(app):
        await app.apause(charge)
        first = await charge.ainvoke(id="order-7")
        with pytest.raises(RunSkipped):
            await first.aresult("2s")
        await app.aresume(charge)
        assert (await charge.ainvoke(id="order-7")).id == first.id


@pytest.mark.parametrize("wrong", ["", "x" * 257, 7], ids=["empty", "long", "number"])
async def test_what_can_be_no_id_of_an_invoke_is_refused(app: TaskFlow, wrong: Any) -> None:
    """S1.5"""

    @app.function
    async def charge(ctx: Context[Step]) -> None: ...

    async with Harness(app) as harness:
        with pytest.raises(InvalidEvent, match="id must be a str of 1 to 256 characters"):
            await charge.ainvoke(id=wrong)
        assert not await harness.runs(charge)


# --- S1.4: send(delay=...) ---


@pytest.mark.parametrize("form", ["name", "event", "list", "function"])
async def test_a_delay_holds_the_runs_that_a_send_starts(app: TaskFlow, form: str) -> None:
    """S1.4"""

    @app.function(trigger="shop/paid")
    async def work(ctx: Context[Step]) -> str:
        return "done"

    async with Harness(app) as harness:
        match form:
            case "name":
                await app.asend("shop/paid", delay="2h")
            case "event":
                await app.asend(Event("shop/paid"), delay=7_200)
            case "list":
                await harness.send([Event("shop/paid"), Event("other")], delay="2h")
            case _:
                await asyncio.to_thread(work.send, delay="2h")
        await harness.settled()
        (run,) = await harness.runs(work)
        assert await run.astatus() is RunStatus.SCHEDULED
        await harness.advance(minutes=119)
        assert await run.astatus() is RunStatus.SCHEDULED
        await harness.advance(minutes=1)
        assert await run.aresult("1s") == "done"


async def test_a_delay_of_nothing_delays_nothing(app: TaskFlow) -> None:
    """S1.4"""

    @app.function(trigger="shop/paid")
    async def work(ctx: Context[Step]) -> str:
        return "done"

    async with Harness(app) as harness:
        await harness.send("shop/paid", delay=0)
        (run,) = await harness.runs(work)
        assert await run.aresult("1s") == "done"


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"event": "shop/paid", "ts": 1_900_000_000_000, "delay": "1h"}, ConfigError, "delay=... or a ts, not both"),
        ({"event": [Event("a"), Event("b", ts=1_900_000_000_000)], "delay": 1}, ConfigError, "event 'b'.*not both"),
        ({"event": "shop/paid", "delay": "soon"}, InvalidDuration, "delay"),
        ({"event": "shop/paid", "delay": -1}, InvalidDuration, "delay"),
        ({"event": "shop/paid", "delay": "367 days"}, InvalidDuration, "at most 1 year"),
    ],
    ids=["ts", "ts of one", "text", "negative", "long"],
)  # fmt: skip
async def test_a_wrong_delay_is_refused_and_nothing_is_sent(
    app: TaskFlow, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    """S1.4, S1.5"""
    async with Harness(app) as harness:
        with pytest.raises(error, match=message):
            await app.asend(**given)
        await harness.settled()
        assert not await harness.store.client.call("KEYS", f"{harness.store.keys.prefix}event:*")
