"""S3.7: what a wide fan-out costs grows with its width, not with its square."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskflow import Context, Step, TaskFlow
from taskflow.engine.tasks.suspension import TaskTree
from taskflow.engine.tasks.tagging import install_task_factory
from taskflow.engine.turns import Turns
from taskflow.testing import Harness
from tests.waiting import until

WIDTH = 300


async def one() -> int:
    return 1


@pytest.mark.parametrize("kind", ["steps", "sleeps"])
async def test_a_wide_fan_out_is_replayed_without_a_look_at_all_tasks_for_each(
    app: TaskFlow, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """With 900 steps that took several seconds, in which the process did nothing else."""
    looks = 0
    rests = TaskTree._rests

    def count(tree: TaskTree, task: asyncio.Task[object]) -> bool:
        nonlocal looks
        looks += 1
        return rests(tree, task)

    monkeypatch.setattr(TaskTree, "_rests", count)

    @app.function()
    async def fan(ctx: Context[Step], step: Step) -> int:
        if kind == "steps":
            await asyncio.gather(*[step.run(f"step {n}", one) for n in range(WIDTH)])
        else:
            await asyncio.gather(*[step.sleep(f"sleep {n}", "1m") for n in range(WIDTH)])
        await step.sleep("nap", "1h")
        return WIDTH

    async with Harness(app) as harness:
        run = await harness.start(fan)
        await harness.advance(hours=2)
        assert await run.aresult("5s") == WIDTH
    assert looks < 20 * WIDTH


async def test_a_wide_run_that_gets_stuck_while_its_waits_are_stored_loses_none_of_them(
    app: TaskFlow,
) -> None:
    """S4.3: they are stored in pages, and the claim was given up before the last page came; the run then waited for ever."""
    stores = asyncio.Event()

    async def until_stored() -> None:
        await stores.wait()

    @app.function()
    async def fan(ctx: Context[Step], step: Step) -> int:
        sleeps = [step.sleep(f"sleep {n}", "1m") for n in range(3 * WIDTH)]
        await asyncio.gather(*sleeps, step.run("until stored", until_stored))
        return WIDTH

    async with Harness(app) as harness:
        claims = harness.workers[0].executor.claims
        park = claims.park

        async def told(*args: Any, **kwargs: Any) -> Any:
            stores.set()
            return await park(*args, **kwargs)

        async def all_stored() -> bool:
            return len((await harness.view(run)).steps) == 3 * WIDTH + 1

        claims.park = told  # type: ignore[method-assign]
        run = await harness.start(fan)
        await until(all_stored, description="all sleeps in the store")
        await harness.advance(hours=2)
        assert await run.aresult("5s") == WIDTH


async def test_who_waits_first_need_not_be_next() -> None:
    """S4.5: the order is that of the story, however the branches come to wait."""
    loop = asyncio.get_running_loop()
    turns = Turns(TaskTree(loop, on_stuck=lambda: None), loop)
    turns.load([f"step {n}" for n in range(3)], 3)
    told: list[int] = []

    async def branch(number: int) -> None:
        await turns.take(f"step {number}")
        told.append(number)

    async with asyncio.timeout(5):
        await asyncio.gather(*[branch(number) for number in (2, 1, 0)])
    assert told == [0, 1, 2]
    turns.close()


async def test_what_a_handler_has_spawned_is_left_over_until_it_ends() -> None:
    loop = asyncio.get_running_loop()
    install_task_factory(loop)
    tree = TaskTree(loop, on_stuck=lambda: None)
    over = asyncio.Event()

    async def handler() -> asyncio.Task[bool]:
        return asyncio.create_task(over.wait())

    root = tree.start(handler())
    child = await root
    left = [tree.has_leftovers]
    over.set()
    await child
    left.append(tree.has_leftovers)
    assert left == [True, False]
    tree.close()
