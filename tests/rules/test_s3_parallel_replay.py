"""S3.7, S3.8, S4.1: parallel branches tell the same story in each replay."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.step import Step
from taskflow.testing import Harness
from tests.conftest import MakeApp
from tests.rules.givens import Gates

pytestmark = pytest.mark.usefixtures("no_bugs")


some_orders = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # each example runs an engine: no shrinking
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@some_orders
@given(data=st.data())
async def test_branches_that_use_the_same_ids_get_their_own_results_in_each_replay(
    make_app: MakeApp, data: st.DataObject
) -> None:
    """S3.7, S3.8, S4.1: for every order in which the branches' steps end."""
    branches, length = 3, 3
    app = make_app()
    gates = Gates()
    passes: list[list[list[str]]] = []

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> None:
        async def branch(number: int) -> list[str]:
            return [await step.run("work", gates.hold, f"{number}{place}") for place in range(length)]

        passes.append(list(await asyncio.gather(*[branch(number) for number in range(branches)])))
        await step.sleep("nap", "1h")
        await step.sleep("nap", "1h")

    order = data.draw(st.permutations([number for number in range(branches) for _ in range(length)]))
    async with Harness(app) as harness:
        await handler.ainvoke()
        places = [0] * branches
        for number in order:
            await gates.open(f"{number}{places[number]}")
            places[number] += 1
        await harness.settled()
        await harness.advance(hours=2)
    assert passes == [[[f"{number}{place}" for place in range(length)] for number in range(branches)]] * 3
    assert len(gates.started) == branches * length


@some_orders
@given(data=st.data())
async def test_branches_that_suspend_in_any_order_get_their_own_results(
    make_app: MakeApp, data: st.DataObject
) -> None:
    """S3.7, S3.8, S4.3: each event replays the handler, which must meet the same memos."""
    branches, length = 3, 3
    app = make_app()
    calls: list[str] = []

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> list[list[str]]:
        def note(name: str) -> str:
            calls.append(name)
            return name

        async def branch(number: int) -> list[str]:
            got = []
            for place in range(length):
                await step.wait_for_event("turn", f"turn {number}", "1d")
                got.append(await step.run("work", note, f"{number}{place}"))
            return got

        return list(await asyncio.gather(*[branch(number) for number in range(branches)]))

    order = data.draw(st.permutations([number for number in range(branches) for _ in range(length)]))
    async with Harness(app, workers=2) as harness:
        run = await harness.start(handler)
        for number in order:
            await harness.send(f"turn {number}")
        expected = [[f"{number}{place}" for place in range(length)] for number in range(branches)]
        assert await run.aresult("1s") == expected
    assert sorted(calls) == sorted(name for names in expected for name in names)


@some_orders
@given(data=st.data())
async def test_branches_of_a_def_handler_that_use_the_same_ids_get_their_own_results(
    make_app: MakeApp, data: st.DataObject
) -> None:
    """S3.7, S3.8, S4.1: branches in threads meet the same memos, though threads run as they like."""
    branches, length = 4, 3
    app = make_app()
    gates = Gates()
    passes: list[list[list[str]]] = []

    @app.function()
    def handler(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        def branch(number: int) -> list[str]:
            return [step.run("work", gates.hold, f"{number}{place}") for place in range(length)]

        passes.append(list(step.parallel([partial(branch, number) for number in range(branches)])))
        step.sleep("nap", "1h")
        step.sleep("nap", "1h")

    order = data.draw(st.permutations([number for number in range(branches) for _ in range(length)]))
    async with Harness(app) as harness:
        await handler.ainvoke()
        places = [0] * branches
        for number in order:
            await gates.open(f"{number}{places[number]}")
            places[number] += 1
        await harness.settled()
        await harness.advance(hours=2)
    assert passes == [[[f"{number}{place}" for place in range(length)] for number in range(branches)]] * 3


async def test_thread_branches_reach_their_first_steps_in_their_order(app: TaskFlow) -> None:
    """S3.7, S3.8: however long the code in front of the first step takes in each pass."""
    passes: list[list[int]] = []
    first_pass = [True]

    @app.function()
    def handler(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        is_first, first_pass[0] = first_pass[0], False
        turns = [threading.Event() for _ in range(4)]

        def branch(number: int) -> int:
            # In the first pass the last branch comes first, in the replay the first, if threads run as they like.
            before = number + 1 if is_first else number - 1
            if 0 <= before < 4:
                turns[before].wait(0.02)
            turns[number].set()
            return step.run("work", lambda: number)

        passes.append(list(step.parallel([partial(branch, number) for number in range(4)])))
        step.sleep("nap", "1h")

    async with Harness(app) as harness:
        await harness.start(handler)
        await harness.advance(hours=1)
    assert passes == [[0, 1, 2, 3]] * 2
