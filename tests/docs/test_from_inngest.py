"""The page for who comes from Inngest: each row of "the same word, another meaning" has a test here, of what taskflow does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import InvalidEvent, RetryAfterError, RunCancelled
from taskflow.event import Event
from taskflow.flow.rate_limit import RateLimit
from taskflow.flow.singleton import Singleton
from taskflow.retries import Retries
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.docs.blocks import REPOSITORY

PAGE = (REPOSITORY / "docs" / "from-inngest.md").read_text()
SECTION = PAGE.partition("## The same word, another meaning")[2].partition("\n## ")[0]
ROWS = [
    line.split("|")[1].strip() for line in SECTION.splitlines() if re.match(r"\| (?!you write)[^-]", line)
]
Pin = Callable[[TaskFlow], Awaitable[None]]
PINS: dict[str, Pin] = {}


def pins(row: str) -> Callable[[Pin], Pin]:
    """The function tests what the row that begins so says of taskflow."""

    def note(pin: Pin) -> Pin:
        PINS[row] = pin
        return pin

    return note


def test_each_row_has_a_test() -> None:
    assert len(ROWS) >= 10
    assert [row for row in ROWS if sum(row.startswith(begin) for begin in PINS) != 1] == []
    assert [begin for begin in PINS if not any(row.startswith(begin) for row in ROWS)] == []


@pytest.mark.parametrize("row", ROWS)
async def test_the_row_is_true(app: TaskFlow, row: str) -> None:
    (pin,) = [pin for begin, pin in PINS.items() if row.startswith(begin)]
    await pin(app)


@pins("`step.sleep(")
async def numbers_are_seconds(app: TaskFlow) -> None:
    @app.function
    async def flow(ctx: Context[Step], step: Step) -> None:
        await step.sleep("rest", 2_000)

    async with Harness(app) as harness:
        began_ms = harness.clock.now_ms()
        run = await harness.start(flow)
        assert await harness.next_due_ms() == began_ms + 2_000_000
        await run.acancel()


@pins("`ts=` of an event")
async def a_ts_is_in_ms(app: TaskFlow) -> None:
    with pytest.raises(InvalidEvent, match="looks like seconds"):
        Event("shop/order", ts=1_700_000_000)
    assert Event("shop/order", ts=1_700_000_000_000).ts == 1_700_000_000_000


@pins("`RetryAfterError(")
async def retry_after_takes_seconds_and_aware_times(app: TaskFlow) -> None:
    with pytest.raises(ValueError, match="time zone"):
        RetryAfterError("busy", datetime(2030, 1, 1))

    async def busy() -> None:
        raise RetryAfterError("busy", 30)

    @app.function(retries=Retries(1))
    async def flow(ctx: Context[Step], step: Step) -> None:
        await step.run("busy", busy)

    async with Harness(app) as harness:
        began_ms = harness.clock.now_ms()
        run = await harness.start(flow)
        assert await harness.next_due_ms() == began_ms + 30_000
        await run.acancel()


@pins("`event.id`")
async def ids_are_unique_among_events_of_a_name(app: TaskFlow) -> None:
    @app.function(trigger=["shop/created", "shop/paid"])
    async def flow(ctx: Context[Step]) -> None: ...

    async with Harness(app) as harness:
        for name in ("shop/created", "shop/paid", "shop/paid"):
            await harness.send(name, id="order-7")
        assert len(await harness.runs(flow)) == 2


@pins("the id of a function")
async def ids_of_functions_have_a_slash(app: TaskFlow) -> None:
    @app.function
    async def make_slip(ctx: Context[Step]) -> str:
        return "slip"

    @app.function
    async def flow(ctx: Context[Step], step: Step) -> Any:
        return await step.invoke("slip", function_id="shop/make-slip")

    async with Harness(app) as harness:
        assert make_slip.id == "shop/make-slip"
        assert await (await harness.run(flow)).aresult() == "slip"


@pins("`attempt` of the context")
async def attempts_are_of_a_step_or_of_the_code_between(app: TaskFlow) -> None:
    seen: list[tuple[str, int]] = []

    @app.function(retries=Retries(2, initial="1s", jitter=False))
    async def flow(ctx: Context[Step], step: Step) -> None:
        async def work() -> None:
            seen.append(("step", ctx.attempt))
            if len(seen) == 1:
                raise ValueError("no")

        await step.run("work", work)
        seen.append(("code", ctx.attempt))
        if len(seen) == 3:
            raise ValueError("no")

    async with Harness(app) as harness:
        await (await harness.run(flow)).aresult()
    assert seen == [("step", 0), ("step", 1), ("code", 0), ("code", 1)]


@pins("race mode")
async def a_race_gives_the_result_of_the_first(app: TaskFlow) -> None:
    ended: list[str] = []
    gate = asyncio.Event()

    async def slow() -> None:
        await gate.wait()
        ended.append("slow")

    @app.function
    async def flow(ctx: Context[Step], step: Step) -> Any:
        async def last() -> Any:
            await step.sleep("long", "1h")

        won = await step.parallel(
            (lambda: step.run("quick", lambda: "quick"), lambda: step.run("slow", slow), last), mode="race"
        )
        gate.set()
        await step.run("after", lambda: None)
        return won

    async with Harness(app) as harness:
        run = await harness.start(flow)
        assert await run.aresult("2s") == "quick"
        assert ended == ["slow"]
        assert await harness.next_due_ms() is None


@pins("a key whose value is")
async def a_false_key_is_a_value(app: TaskFlow) -> None:
    @app.function(trigger="limited", rate_limit=RateLimit(1, "1h", key="event.data.k"))
    async def limited(ctx: Context[Step]) -> None: ...

    @app.function(trigger="single", singleton=Singleton(key="event.data.k", mode="skip"))
    async def single(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1h")

    async with Harness(app) as harness:
        for data in ({"k": False}, {"k": False}, {"k": 0}, {"k": None}, {"k": ""}, {}):
            await harness.send([Event("limited", data), Event("single", data)])
        for function in (limited, single):
            statuses = [await run.astatus() for run in await harness.runs(function)]
            skipped = [place for place, status in enumerate(statuses) if status is RunStatus.SKIPPED]
            # The second false; and of null, "" and nothing all but the first.
            assert skipped == [1, 4, 5]
        await harness.advance(hours=1)


@pins("an invoke of a function with `rate_limit`")
async def invokes_are_not_limited(app: TaskFlow) -> None:
    @app.function(trigger="limited", rate_limit=RateLimit(1, "1h"))
    async def limited(ctx: Context[Step]) -> str:
        return "done"

    @app.function
    async def flow(ctx: Context[Step], step: Step) -> list[Any]:
        return [await step.invoke(f"number {n}", function=limited) for n in range(3)]

    async with Harness(app) as harness:
        for _ in range(2):
            await harness.send("limited")
        assert await (await harness.run(flow)).aresult() == ["done"] * 3
        assert await (await limited.ainvoke()).aresult("2s") == "done"
        statuses = [await run.astatus() for run in await harness.runs(limited)]
        assert statuses.count(RunStatus.SKIPPED) == 1


@pins("cancelling a run whose step executes")
async def a_step_that_executes_ends_and_is_stored(app: TaskFlow) -> None:
    entered, gate = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        entered.set()
        await gate.wait()
        return "worked"

    @app.function
    async def flow(ctx: Context[Step], step: Step) -> None:
        await step.run("work", work)

    @app.function
    async def body(ctx: Context[Step]) -> str:
        return await work()

    async with Harness(app) as harness:
        for function in (flow, body):
            entered.clear()
            gate.clear()
            run = await function.ainvoke()
            await entered.wait()
            await run.acancel()
            assert await run.astatus() is RunStatus.RUNNING
            gate.set()
            with pytest.raises(RunCancelled):
                await run.aresult("2s")
            await harness.settled()
            if function is flow:
                assert (await harness.steps(run))["work"].output == "worked"
