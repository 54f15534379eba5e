"""The Harness runs the real engine; only the clock is the test's."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import RunNotFound
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from taskflow.triggers import TriggerCron
from taskflow.values.clock import VirtualClock
from tests.waiting import until


async def test_a_run_that_sleeps_30_days_takes_less_than_100_ms(app: TaskFlow) -> None:
    @app.function(trigger="user.created")
    async def remind(ctx: Context[Step], step: Step) -> str:
        await step.sleep("a month", "30 days")
        return "reminded"

    took_s = []
    async with Harness(app) as harness:
        for _ in range(3):
            began = time.perf_counter()
            run = await harness.send("user.created", {"id": 7})
            assert harness.slots_in_use == 0
            await harness.advance(days=30)
            assert await run.aresult() == "reminded"
            took_s.append(time.perf_counter() - began)
    assert min(took_s) < 0.1  # the machine may be busy with other tests for a while


async def test_what_falls_due_in_between_happens_at_its_own_time_and_in_order(app: TaskFlow) -> None:
    seen: list[tuple[str, int]] = []
    clock = VirtualClock(1_900_000_000_000)

    @app.function(trigger=TriggerCron("0 0 * * *"))
    async def midnight(ctx: Context[Step]) -> None:
        seen.append(("midnight", clock.now_ms()))

    @app.function()
    def walk(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        for _ in range(3):
            step.sleep("a while", "18h")
            step.run("note", lambda: seen.append(("walk", clock.now_ms())))

    async with Harness(app, clock=clock) as harness:
        await harness.start(walk)
        await harness.advance(days=2, hours=12)

    hour_ms = 3_600_000
    assert seen == sorted(seen, key=lambda item: item[1])
    assert [at for what, at in seen if what == "walk"] == [
        1_900_000_000_000 + n * 18 * hour_ms for n in (1, 2, 3)
    ]
    assert [at % (24 * hour_ms) for what, at in seen if what == "midnight"] == [0, 0, 0]


async def test_runs_are_found_by_the_event_that_started_them(app: TaskFlow) -> None:
    @app.function(trigger="shop/paid")
    async def receipt(ctx: Context[Step]) -> Any:
        return ctx.event.data

    @app.function(trigger="shop/other")
    async def other(ctx: Context[Step]) -> None: ...

    async with Harness(app) as harness:
        (first,) = await harness.send("shop/paid", {"n": 1})
        (second,) = await harness.send("shop/paid", {"n": 2}, id="order-2")
        assert await (await harness.run_of(receipt, first)).aresult("1s") == {"n": 1}
        assert await (await harness.run_of(receipt, second)).aresult("1s") == {"n": 2}
        assert len(await harness.runs(receipt)) == 2
        with pytest.raises(RunNotFound, match="started no run of shop/other"):
            await harness.run_of(other, first)


async def test_several_workers_share_the_runs_of_an_app(app: TaskFlow) -> None:
    gate = asyncio.Event()

    @app.function(trigger="go")
    async def held(ctx: Context[Step], step: Step) -> None:
        await step.run("hold", gate.wait)

    async with Harness(app, workers=2, concurrency=1) as harness:
        for _ in range(3):
            await app.asend("go")
        await until(
            lambda: [len(worker.executor.executions) for worker in harness.workers] == [1, 1],
            description="one run for each worker",
        )
        assert harness.slots_in_use == 2
        gate.set()
        await harness.settled()
        assert {(await harness.view(run)).status for run in await harness.runs(held)} == {RunStatus.COMPLETED}


async def test_a_run_that_awaits_raw_io_counts_as_settled(app: TaskFlow) -> None:
    answer = asyncio.Event()

    @app.function()
    async def mixed(ctx: Context[Step], step: Step) -> str:
        await asyncio.gather(step.sleep("a day", "1d"), answer.wait())
        return "both"

    async with Harness(app) as harness:
        run = await harness.start(mixed)
        assert harness.slots_in_use == 1
        await harness.advance(days=2)
        answer.set()
        assert await run.aresult("1s") == "both"


async def test_what_never_settles_is_named(app: TaskFlow) -> None:
    gate = asyncio.Event()

    @app.function()
    async def stuck(ctx: Context[Step], step: Step) -> None:
        await step.run("for ever", gate.wait)

    async with Harness(app) as harness:
        harness.deadline_s = 0.1
        with pytest.raises(TimeoutError, match="run .* of shop/stuck is executing"):
            await harness.start(stuck)
        gate.set()


async def test_a_clock_that_the_test_turns_itself_wakes_what_is_due(app: TaskFlow) -> None:
    """At once, as `advance` does; beat by itself would look a second later, each time."""

    @app.function(trigger="shop/begun")
    async def patient(ctx: Context[Step], step: Step) -> str:
        for _ in range(20):
            await step.sleep("a day", "1d")
        return "woken"

    async with Harness(app) as harness:
        run = await harness.send("shop/begun", {})
        began_s = time.monotonic()
        for _ in range(10):
            await harness.advance(days=1)
        advanced_s = time.monotonic() - began_s
        for _ in range(10):
            harness.clock.advance(days=1)
            await harness.settled()
        turned_s = time.monotonic() - began_s - advanced_s
        assert await run.aresult() == "woken"
    assert turned_s < 2 * advanced_s + 2
