"""S6.2: a run that executes is cancelled after its running step."""

from __future__ import annotations

import asyncio
import threading

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import RunCancelled
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.rules.endings import nothing_is_left_of, watch
from tests.waiting import until


@pytest.mark.parametrize("kind", ["async", "blocking"])
async def test_a_step_that_executes_ends_and_is_stored_before_the_run_is_cancelled(
    app: TaskFlow, kind: str
) -> None:
    """S6.2"""
    told = watch(app)
    entered, gate = threading.Event(), threading.Event()
    seen: list[str] = []

    def work() -> str:
        entered.set()
        assert gate.wait(5)
        return "worked"

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> None:
        try:
            await step.run("work", work)
            await step.run("next", seen.append, "next")
        finally:
            seen.append("closed")

    @app.function()
    def blocking_flow(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        try:
            step.run("work", work)
            step.run("next", seen.append, "next")
        finally:
            seen.append("closed")

    async with Harness(app) as harness:
        run = await (flow if kind == "async" else blocking_flow).ainvoke()
        await until(entered.is_set, description="the step to begin")
        assert await run.acancel("stop") is True
        assert await run.astatus() is RunStatus.RUNNING
        assert not told
        gate.set()
        with pytest.raises(RunCancelled, match="stop"):
            await run.aresult("2s")
        await harness.settled()
        view = await harness.view(run)
        assert (view.steps["work"].state, view.steps["work"].output) == ("done", "worked")
        assert set(view.steps) == {"work"}
        assert harness.slots_in_use == 0
        assert [data["error"]["message"] for data in told] == ["stop"]
        await nothing_is_left_of(harness, run)
    assert seen == ["closed"]


async def test_all_parallel_steps_that_execute_end_and_are_stored(app: TaskFlow) -> None:
    """S6.2: while a sleep beside them is dropped."""
    entered, gate = asyncio.Barrier(4), asyncio.Event()

    async def work(number: int) -> int:
        await entered.wait()
        await gate.wait()
        return number

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> None:
        await asyncio.gather(step.sleep("nap", "1h"), *[step.run(f"work {n}", work, n) for n in range(3)])

    async with Harness(app) as harness:
        run = await flow.ainvoke()
        await entered.wait()
        await run.acancel()
        gate.set()
        with pytest.raises(RunCancelled):
            await run.aresult("2s")
        await harness.settled()
        steps = (await harness.view(run)).steps
        assert {key: step.output for key, step in steps.items() if step.state == "done"} == {
            "work 0": 0, "work 1": 1, "work 2": 2,
        }  # fmt: skip
        await nothing_is_left_of(harness, run)


async def test_a_step_that_fails_while_its_run_is_cancelled_is_not_tried_again(app: TaskFlow) -> None:
    """S6.2, S5.1"""
    entered, gate = asyncio.Event(), asyncio.Event()
    calls: list[int] = []

    async def work() -> None:
        calls.append(1)
        entered.set()
        await gate.wait()
        raise ValueError("too late")

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> None:
        await step.run("work", work)

    async with Harness(app) as harness:
        run = await flow.ainvoke()
        await entered.wait()
        await run.acancel()
        gate.set()
        with pytest.raises(RunCancelled):
            await run.aresult("2s")
        await harness.advance(hours=2)
        await nothing_is_left_of(harness, run)
    assert calls == [1]


async def test_a_run_between_its_steps_is_cancelled_at_once(app: TaskFlow) -> None:
    """S6.2: it awaits raw I/O after a step. Before the first one it would be let end (S4.7)."""
    entered = asyncio.Event()
    seen: list[str] = []

    @app.function()
    async def raw(ctx: Context[Step], step: Step) -> None:
        await step.run("first", lambda: None)
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("closed")

    async with Harness(app) as harness:
        run = await raw.ainvoke()
        await entered.wait()
        await run.acancel()
        with pytest.raises(RunCancelled):
            await run.aresult("2s")
        await harness.settled()
        assert harness.slots_in_use == 0
    assert seen == ["closed"]


async def test_a_run_that_returns_while_it_is_being_cancelled_is_cancelled(app: TaskFlow) -> None:
    """S6.2: the last step executes when the cancellation comes."""
    entered, gate = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        entered.set()
        await gate.wait()

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> str:
        await step.run("work", work)
        return "done"

    async with Harness(app) as harness:
        run = await flow.ainvoke()
        await entered.wait()
        await run.acancel()
        gate.set()
        with pytest.raises(RunCancelled):
            await run.aresult("2s")
        await harness.settled()


async def test_cancelling_twice_tells_of_it_once(app: TaskFlow) -> None:
    """S6.2: the first reason stands; what is over can't be cancelled."""
    told = watch(app)

    @app.function()
    async def nap(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1d")

    @app.function()
    async def quick(ctx: Context[Step]) -> str:
        return "done"

    async with Harness(app) as harness:
        run = await harness.start(nap)
        assert await run.acancel("first") is True
        assert await run.acancel("second") is False
        with pytest.raises(RunCancelled, match="first"):
            await run.aresult("1s")
        finished = await harness.start(quick)
        assert await finished.acancel() is False
        assert await finished.aresult("1s") == "done"
        await harness.advance(minutes=1)
    assert [data["error"]["message"] for data in told] == ["first"]


async def test_many_callers_cancel_a_run_at_the_same_time(app: TaskFlow) -> None:
    """S6.2: one of them does it."""
    told = watch(app)

    @app.function()
    async def nap(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1d")

    async with Harness(app) as harness:
        run = await harness.start(nap)
        outcomes = await asyncio.gather(*[run.acancel(f"caller {n}") for n in range(20)])
        assert sorted(outcomes) == [False] * 19 + [True]
        await harness.advance(minutes=1)
    assert len(told) == 1


async def test_cancelling_an_executing_run_twice_keeps_the_first_reason(app: TaskFlow) -> None:
    """S6.2"""
    told = watch(app)
    entered, gate = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        entered.set()
        await gate.wait()

    @app.function()
    async def flow(ctx: Context[Step], step: Step) -> None:
        await step.run("work", work)

    async with Harness(app) as harness:
        run = await flow.ainvoke()
        await entered.wait()
        await run.acancel("first")
        await run.acancel("second")
        gate.set()
        with pytest.raises(RunCancelled, match="first"):
            await run.aresult("2s")
        await harness.advance(minutes=1)
    assert [data["error"]["message"] for data in told] == ["first"]


async def test_a_run_is_cancelled_without_any_worker(app: TaskFlow) -> None:
    """S6.2: what isn't executing needs none; the event is routed when one is back."""
    told = watch(app)

    @app.function()
    async def nap(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1d")

    async with Harness(app, workers=0) as harness:
        run = await nap.ainvoke()
        assert await run.acancel() is True
        assert await run.astatus() is RunStatus.CANCELLED
        await nothing_is_left_of(harness, run)
    async with Harness(app) as harness:
        await harness.settled()
    assert len(told) == 1
