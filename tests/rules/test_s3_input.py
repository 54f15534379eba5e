"""S3.1, S10.2: steps that keep their input."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import RunFailed, StepError
from taskflow.retries import Retries
from taskflow.run import Run
from taskflow.step import Step
from taskflow.store.operation import Operation
from taskflow.testing import Harness
from tests.rules.givens import both_kinds


@dataclass
class Order:
    id: int
    skus: tuple[str, ...]


def total(order: Order, *prices: float, tax: float = 0.0) -> float:
    return sum(prices) * (1 + tax)


async def operation(harness: Harness, run: Run, key: str) -> Operation:
    stored = await harness.store.history.run(run.id)
    assert stored is not None
    return Operation.unpack(stored.steps[key])


@both_kinds
async def test_the_arguments_are_kept_where_that_is_asked_for(app: TaskFlow, is_async: bool) -> None:
    """As JSON, as a result would be; and nothing where it is not asked for."""
    order = Order(7, ("a", "b"))

    @app.function(id="work")
    async def work(ctx: Context[Step], step: Step) -> float:
        await step.run("plain", total, order, 1.0)
        return await step.with_options(record_input=True).run("kept", total, order, 1.0, 2.0, tax=0.5)

    @app.function(id="blocking")
    def blocking(ctx: Context[BlockingStep], step: BlockingStep) -> float:
        step.run("plain", total, order, 1.0)
        return step.with_options(record_input=True).run("kept", total, order, 1.0, 2.0, tax=0.5)

    async with Harness(app) as harness:
        run = await harness.start(work if is_async else blocking)
        assert await run.aresult("1s") == 4.5
        view = await harness.view(run)
        assert view.steps["kept"].input == {
            "args": [{"id": 7, "skus": ["a", "b"]}, 1.0, 2.0],
            "kwargs": {"tax": 0.5},
        }
        assert view.steps["kept"].output == 4.5
        assert view.steps["plain"].input is None
        assert (await operation(harness, run, "plain")).input is None
        assert 'input  {"id":7,"skus":["a","b"]}, 1.0, 2.0, tax=0.5' in view.steps["kept"].page
        assert json.loads(json.dumps(view.to_json(0)))["steps"][1]["input"] == view.steps["kept"].input


async def test_the_input_stays_with_a_step_that_is_tried_again(app: TaskFlow) -> None:
    """In the memo of a failed attempt too, and it is that of the first call."""
    calls: list[int] = []

    def flaky(number: int) -> int:
        calls.append(number)
        if len(calls) < 3:
            raise ValueError("not yet")
        return number

    @app.function(retries=Retries(2, initial="1s", jitter=False))
    async def work(ctx: Context[Step], step: Step) -> int:
        return await step.with_options(record_input=True).run("flaky", flaky, len(calls))

    async with Harness(app) as harness:
        run = await harness.start(work)
        assert (await harness.view(run)).steps["flaky"].input == {"args": [0], "kwargs": {}}
        await harness.advance(seconds=5)
        view = await harness.view(run)
        assert (view.steps["flaky"].attempts, view.steps["flaky"].input) == (3, {"args": [0], "kwargs": {}})


async def test_a_failed_step_keeps_its_input(app: TaskFlow) -> None:
    def fail(number: int) -> None:
        raise ValueError(number)

    @app.function(retries=0)
    async def work(ctx: Context[Step], step: Step) -> str:
        try:
            await step.with_options(record_input=True).run("fail", fail, 7)
        except StepError:
            return "caught"
        return "?"

    async with Harness(app) as harness:
        run = await harness.start(work)
        step = (await harness.view(run)).steps["fail"]
        assert (step.state, step.input) == ("failed", {"args": [7], "kwargs": {}})


async def test_a_memo_is_taken_whatever_the_arguments_are_now(app: TaskFlow) -> None:
    """S4.1: the input is kept for people; a replay does not look at it."""
    seen: list[int] = []

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> None:
        seen.append(
            await step.with_options(record_input=True).run("number", lambda number: number, len(seen) + 1)
        )
        await step.sleep("nap", 1)

    async with Harness(app) as harness:
        run = await harness.start(work)
        await harness.advance(seconds=1)
        assert (await harness.view(run)).steps["number"].input == {"args": [1], "kwargs": {}}
    assert seen == [1, 1]


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        (object(), "SerializationError: the input of step 'work'"),
        ("x" * 1_000, r"LimitExceeded: step 'work' was given 1,\d\d\d bytes of JSON, but at most 1,000 are allowed"),
    ],
)  # fmt: skip
async def test_an_input_that_cant_be_kept_fails_the_run_before_the_step(
    app: TaskFlow, argument: Any, told: str
) -> None:
    """S2.6, S3.10"""
    calls: list[Any] = []
    object.__setattr__(app.config, "max_step_output_bytes", 1_000)

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> None:
        await step.with_options(record_input=True).run("work", calls.append, argument)

    async with Harness(app) as harness:
        run = await harness.start(work)
        with pytest.raises(RunFailed, match=told):
            await run.aresult("1s")
    assert not calls


async def test_an_edited_result_leaves_the_input(app: TaskFlow) -> None:
    """S10.3"""

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> int:
        return await step.with_options(record_input=True).run("double", lambda number: 2 * number, 4)

    async with Harness(app) as harness:
        run = await harness.start(work)
        again = await app.arerun(run.id, from_step="double", output=9)
        assert await again.aresult("1s") == 9
        assert (await harness.view(again)).steps["double"].input == {"args": [4], "kwargs": {}}


async def test_a_step_that_another_process_executes_keeps_its_input(app: TaskFlow) -> None:
    """S4.4: two steps that wait for each other, in processes with one slot each."""
    both = asyncio.Barrier(2)

    async def meet(number: int) -> int:
        await both.wait()
        return number

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> list[int]:
        numbers = [
            step.with_options(record_input=True).run(f"step {number}", meet, number) for number in range(2)
        ]
        return list(await asyncio.gather(*numbers))

    async with Harness(app, workers=2, concurrency=1) as harness:
        run = await harness.start(work)
        assert await run.aresult("5s") == [0, 1]
        steps = (await harness.view(run)).steps
        assert len({step.worker for step in steps.values()}) == 2
        assert [step.input for step in steps.values()] == [{"args": [n], "kwargs": {}} for n in range(2)]
