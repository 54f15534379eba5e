"""Parallel steps on fewer slots than steps. Rule S4.4."""

from __future__ import annotations

import asyncio
import time

import pytest

from taskflow import Context, Step, TaskFlow
from taskflow.engine.offering import OFFER_AFTER_S
from taskflow.testing import Harness


@pytest.mark.parametrize("steps", [3, 60])
async def test_parallel_steps_end_in_a_process_with_a_single_slot(app: TaskFlow, steps: int) -> None:
    def same(number: int) -> int:
        return number

    @app.function()
    async def gather(ctx: Context[Step], step: Step) -> list[int]:
        return await asyncio.gather(*[step.run(f"step {n}", same, n) for n in range(steps)])

    async with Harness(app, concurrency=1, deadline_s=30) as harness:
        run = await harness.start(gather)
        assert await run.aresult("1s") == list(range(steps))
        assert harness.slots_in_use == 0


async def test_a_step_goes_elsewhere_at_once_while_no_slot_comes_free(app: TaskFlow) -> None:
    """Without waiting as long as where slots come free all the time. The best of several: the machine may be busy."""
    waited_s: list[float] = []

    @app.function()
    async def pair(ctx: Context[Step], step: Step) -> None:
        began_s, other = time.monotonic(), asyncio.Event()

        async def first() -> None:
            await other.wait()

        async def second() -> float:
            return time.monotonic()

        async def release() -> None:
            waited_s.append(await step.run("second", second) - began_s)
            other.set()

        await asyncio.gather(step.run("first", first), release())

    async with Harness(app, workers=2, concurrency=1) as harness:
        for _ in range(5):
            run = await app.ainvoke(pair)
            await run.aresult("5s")
            await harness.settled()
    assert min(waited_s) < OFFER_AFTER_S, "not offered before that"
