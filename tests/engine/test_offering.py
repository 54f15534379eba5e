"""Parallel steps on fewer slots than steps. Rule S4.4."""

from __future__ import annotations

import asyncio

import pytest

from taskflow import Context, Step, TaskFlow
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
