"""S6.2: the code of a cancelled run has some time to end; what takes longer is cut off, and a thread of it abandoned."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import RunCancelled
from taskflow.function import Function
from taskflow.step import Step
from taskflow.testing import Harness
from taskflow.timeouts import Timeouts
from tests.rules.endings import nothing_is_left_of, watch
from tests.waiting import until

GRACE_S = 0.05
SHAPES = ("step of an async handler", "step of a def handler", "body", "code between steps", "branches")


class Stuck:
    """Blocking code that goes on until the test lets it."""

    def __init__(self) -> None:
        self.entered, self.gate, self.left = threading.Event(), threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.entered.set()
        try:
            assert self.gate.wait(10)
        finally:
            self.left.set()
        return "too late"


def stuck_function(
    app: TaskFlow,
    shape: str,
    stuck: Stuck,
    *,
    concurrency: int | None = None,
    timeouts: Timeouts | None = None,
) -> Function[..., Any]:
    """A function that blocks a thread, in a place of its code that `shape` names."""

    @app.function(concurrency=concurrency, timeouts=timeouts)
    async def flow(ctx: Context[Step], step: Step) -> str:
        return await step.run("work", stuck)

    @app.function(concurrency=concurrency, timeouts=timeouts)
    def blocking(ctx: Context[BlockingStep], step: BlockingStep) -> str:
        if shape == "body":
            return stuck()
        if shape == "branches":
            step.parallel((lambda: step.run("work", stuck), lambda: step.sleep("nap", "1h")))
        if shape == "code between steps":
            step.run("first", int)
            stuck()
        return step.run("work", stuck)

    return flow if shape == SHAPES[0] else blocking


def short_grace(harness: Harness, reasons: list[str]) -> None:
    executor = harness.workers[0].executor
    executor.grace_s = GRACE_S
    executor.on_abandoned = reasons.append


@pytest.mark.parametrize("is_limited", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_cancelled_run_does_not_wait_for_a_thread_that_goes_on(
    app: TaskFlow, shape: str, is_limited: bool
) -> None:
    """S6.2: its slot and its places are free, its process asks to be replaced, and what the thread comes to does not count."""
    stuck, reasons, told = Stuck(), list[str](), watch(app)
    work = stuck_function(app, shape, stuck, concurrency=1 if is_limited else None)
    async with Harness(app) as harness:
        short_grace(harness, reasons)
        run = await work.ainvoke()
        await until(stuck.entered.is_set, description="the code to block")
        assert await run.acancel("stop") is True
        with pytest.raises(RunCancelled, match="stop"):
            await run.aresult("2s")
        assert not stuck.left.is_set()
        await until(lambda: reasons, description="the process to ask to be replaced")
        assert reasons == [f"code of {work.id} blocks a thread, though its run was cancelled"]
        await harness.settled()
        assert harness.slots_in_use == 0
        assert [data["error"]["message"] for data in told] == ["stop"]
        stuck.gate.set()
        await until(stuck.left.is_set, description="the thread to go on")
        await harness.settled()
        steps = (await harness.view(run)).steps
        assert [key for key, step in steps.items() if step.output == "too late"] == []
        await nothing_is_left_of(harness, run)


async def test_a_finish_timeout_reaches_code_that_blocks_a_thread(app: TaskFlow) -> None:
    """S6.3: the run is cancelled when its time and the grace are over."""
    stuck, reasons = Stuck(), list[str]()
    work = stuck_function(app, "body", stuck, timeouts=Timeouts(finish="1m"))
    async with Harness(app) as harness:
        short_grace(harness, reasons)
        run = await work.ainvoke()
        await until(stuck.entered.is_set, description="the code to block")
        harness.clock.advance(minutes=1)
        with pytest.raises(RunCancelled, match=r"timeouts\.finish"):
            await run.aresult("2s")
        assert len(reasons) == 1
        stuck.gate.set()


async def test_async_code_of_a_cancelled_run_is_cancelled_where_it_awaits(app: TaskFlow) -> None:
    """S6.2: and its process goes on."""
    entered, seen, reasons = asyncio.Event(), list[str](), list[str]()

    async def work() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("closed")

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> None:
        await step.run("work", work)

    async with Harness(app) as harness:
        short_grace(harness, reasons)
        run = await flow.ainvoke()
        await entered.wait()
        await run.acancel("stop")
        with pytest.raises(RunCancelled, match="stop"):
            await run.aresult("2s")
        await harness.settled()
        assert harness.slots_in_use == 0
        assert seen == ["closed"]
        await nothing_is_left_of(harness, run)
    assert reasons == []
