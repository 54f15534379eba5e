"""S4.1, S7.1: steps that still execute when their handler has failed, or has gone on without them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from taskflow import Context, NonRetriableError, Retries, Step, TaskFlow
from taskflow.run import RunStatus
from taskflow.testing import Harness
from tests.flow.gauge import Gauge
from tests.rules.givens import Gates, has_step
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("no_bugs")

SOON = Retries(attempts=2, initial="1s", jitter=False)


async def test_a_step_that_executes_while_the_handler_fails_is_not_executed_again(app: TaskFlow) -> None:
    """S4.1: its outcome is stored, and the next attempt of the handler finds it."""
    gates, failing = Gates(), asyncio.Event()

    @app.function(retries=SOON)
    async def job(ctx: Context[Step], step: Step) -> Any:
        async def fail_once() -> None:
            await step.run("first", str)
            if ctx.attempt == 0:
                failing.set()
                raise ValueError("between the steps")

        return await asyncio.gather(step.run("slow", gates.hold, "slow"), fail_once())

    async with Harness(app, workers=2) as harness:
        run = await job.ainvoke()
        await failing.wait()
        for _ in range(20):  # time for the retry to be stored
            await harness.store.client.call("PING")
        await gates.open("slow")
        await harness.advance(minutes=1)
        assert await run.aresult() == ["slow", None]
    assert gates.started == ["slow"]


async def test_the_place_of_a_failed_run_is_taken_until_its_steps_have_ended(app: TaskFlow) -> None:
    """S7.1"""
    gauge, gate, failing = Gauge(), asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with gauge.inside("job"):
            await gate.wait()

    async def fail() -> None:
        async with gauge.inside("job"):
            await failing.wait()
            raise NonRetriableError("refused")

    @app.function(retries=0, concurrency=2)
    async def job(ctx: Context[Step], step: Step) -> None:
        await asyncio.gather(step.run("hold", hold), step.run("fail", fail))

    async with Harness(app, workers=2) as harness:
        first = await job.ainvoke()
        await until(lambda: gauge.now["job"] == 2, description="both steps of the first run")
        second = await job.ainvoke()
        failing.set()
        await until(
            partial(has_step, harness, second, "fail", "offer"), description="the second run's parallel step"
        )
        for _ in range(50):  # time for it to be executed, if there is room
            await harness.store.client.call("PING")
        gate.set()
        await harness.settled()
        assert {await run.astatus() for run in (first, second)} == {RunStatus.FAILED}
    assert gauge.most["job"] == 2


async def test_an_offered_step_is_tried_again_when_code_on_the_way_to_it_fails(app: TaskFlow) -> None:
    """S5.1: that failure is not the step's for good."""
    calls = 0

    @app.function(retries=SOON, concurrency=10)
    async def job(ctx: Context[Step], step: Step) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:  # the replay that is to lead to the offered step
            raise ValueError("a moment of weakness")
        return await step.parallel([partial(step.run, f"part {n}", str, n) for n in range(2)])

    async with Harness(app) as harness:
        run = await job.ainvoke()
        await harness.advance(minutes=1)
        assert await run.aresult() == ["0", "1"]


async def test_a_step_that_lost_a_race_is_not_executed_again_in_a_replay(app: TaskFlow) -> None:
    """S3.7"""
    gates = Gates()

    async def quick() -> str:
        await until(lambda: "slow" in gates.started, description="start of slow")
        return "quick"

    @app.function(concurrency=10)
    async def job(ctx: Context[Step], step: Step) -> Any:
        first = await step.parallel(
            [partial(step.run, "quick", quick), partial(step.run, "slow", gates.hold, "slow")], mode="race"
        )
        await step.sleep("nap", "1h")
        return first

    async with Harness(app, workers=2) as harness:
        run = await job.ainvoke()
        await until(partial(has_step, harness, run, "nap", "wait"), description="end of the race")
        await gates.open("slow")
        await harness.advance(hours=2)
        assert await run.aresult() == "quick"
    assert gates.started == ["slow"]
