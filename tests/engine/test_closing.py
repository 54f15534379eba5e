"""What a run leaves behind in its process."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Iterator

import pytest

from taskflow import BlockingStep, Context, RunStatus, Step, TaskFlow
from taskflow.engine.execution import Execution
from taskflow.testing import Harness


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def executions_in_cycles() -> int:
    """How many only the cyclic collector could free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    return sum(isinstance(each, Execution) for each in gc.garbage)


async def test_a_run_is_freed_without_the_collector(app: TaskFlow, no_collector: None) -> None:
    """It takes longer than a short run does."""

    @app.function()
    async def order(ctx: Context[Step], step: Step) -> int:
        paid = await step.run("charge", lambda: 7)
        await step.sleep("cool off", "1h")
        return paid

    @app.function(retries=0)
    async def failing(ctx: Context[Step]) -> None:
        raise ValueError("no")

    async with Harness(app) as harness:
        run = await harness.start(order)
        await harness.start(failing)
        await harness.settled()
        assert executions_in_cycles() == 0, "suspended, or failed"
        await harness.advance(hours=1)
        assert await run.aresult() == 7
        await harness.settled()
        assert executions_in_cycles() == 0, "completed"


async def test_a_thread_that_goes_on_after_its_run_was_suspended_harms_nothing(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    """S4.6: its steps are refused, however many it calls. The run was let go of by then."""
    released, over = threading.Event(), threading.Event()
    refused: list[str] = []

    @app.function()
    def stubborn(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        try:
            step.sleep("nap", "1h")
        except BaseException:
            released.wait(5)
            for number in range(4):
                try:
                    step.run(f"late {number}", lambda: None)
                except BaseException as error:
                    refused.append(type(error).__name__)
            over.set()
            raise

    async with Harness(app) as harness:
        run = await harness.start(stubborn)
        await harness.settled()
        assert harness.slots_in_use == 0
        with caplog.at_level(logging.ERROR, "taskflow.engine"):
            released.set()
            assert await asyncio.to_thread(over.wait, 5)
            await harness.settled()
        assert refused == ["Suspend"] * 4
        assert not caplog.records, "the engine failed"
        assert await run.astatus() is RunStatus.WAITING
