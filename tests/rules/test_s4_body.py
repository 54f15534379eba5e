"""S4.7: the code of a handler up to its first call of a step tool, its body, is one implicit step."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import NonRetriableError, RunCancelled, RunFailed, Suspend
from taskflow.function import Function
from taskflow.retries import Retries
from taskflow.run import Run, RunStatus, RunView
from taskflow.step import Step
from taskflow.testing import Harness
from taskflow.timeouts import Timeouts
from tests.rules.givens import both_kinds
from tests.waiting import until

SOON = Retries(2, initial="1s", multiplier=1, jitter=False)


class Body:
    """What a handler does outside of steps until the test opens its gate: in a task or in a thread."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.calls = 0
        self.ended = 0

    def block(self) -> str:
        self.calls += 1
        self.entered.set()
        assert self.gate.wait(10)
        self.ended += 1
        return "done"

    async def wait(self) -> str:
        self.calls += 1
        self.entered.set()
        await asyncio.to_thread(self.gate.wait, 10)
        self.ended += 1
        return "done"

    async def begun(self) -> None:
        await until(self.entered.is_set, description="the body to begin")


def function_without_steps(
    app: TaskFlow, body: Body, *, is_async: bool, **options: Any
) -> Function[..., Any]:
    @app.function(id="work", **options)
    async def work(ctx: Context[Step]) -> str:
        return await body.wait()

    if is_async:
        return work

    @app.function(id="blocking", **options)
    def blocking(ctx: Context[BlockingStep]) -> str:
        return body.block()

    return blocking


def function_with_a_step_before(app: TaskFlow, body: Body, *, is_async: bool) -> Function[..., Any]:
    if is_async:

        @app.function(id="work")
        async def work(ctx: Context[Step], step: Step) -> str:
            await step.run("first", lambda: None)
            return await body.wait()

        return work

    @app.function(id="work")
    def blocking(ctx: Context[BlockingStep], step: BlockingStep) -> str:
        step.run("first", lambda: None)
        return body.block()

    return blocking


async def drain(harness: Harness, description: str = "the worker to drain") -> asyncio.Task[None]:
    """SIGTERM to the one worker: it takes nothing more, and ends when what executes has ended."""
    executor = harness.workers[0].executor
    draining = asyncio.create_task(executor.drain())
    await until(lambda: executor.is_draining, description=description)
    return draining


async def stored(harness: Harness, run: Run) -> RunView:
    return await harness.view(run)


# --- a drain ---


@both_kinds
async def test_a_drain_waits_for_a_body_and_stores_what_it_came_to(app: TaskFlow, is_async: bool) -> None:
    """S4.7, S9.6"""
    body = Body()
    work = function_without_steps(app, body, is_async=is_async)
    async with Harness(app) as harness:
        run = await work.ainvoke()
        await body.begun()
        draining = await drain(harness)
        done, _ = await asyncio.wait([draining], timeout=0.05)
        assert not done, "the body executes"
        assert await run.astatus() is RunStatus.RUNNING
        body.gate.set()
        await draining
        assert await run.aresult("1s") == "done"
        assert harness.slots_in_use == 0
    assert (body.calls, body.ended) == (1, 1)


@both_kinds
async def test_a_body_that_fails_in_a_drain_is_tried_again_as_ever(app: TaskFlow, is_async: bool) -> None:
    """S4.7, S5.1: elsewhere, and the attempt counts."""

    class Failing(Body):
        def block(self) -> str:
            super().block()
            raise ValueError("no stock")

        async def wait(self) -> str:
            await super().wait()
            raise ValueError("no stock")

    body = Failing()
    work = function_without_steps(app, body, is_async=is_async, retries=SOON)
    async with Harness(app) as harness:
        run = await work.ainvoke()
        await body.begun()
        draining = await drain(harness)
        body.gate.set()
        await draining
        view = await stored(harness, run)
        assert (view.status, view.attempt) == (RunStatus.WAITING, 1)
        assert [str(attempt.error) for attempt in view.failed_attempts] == ["ValueError: no stock"]


@both_kinds
async def test_a_drain_lets_code_after_the_last_step_end(app: TaskFlow, is_async: bool) -> None:
    """S4.7: another worker would execute it once more."""
    body = Body()
    work = function_with_a_step_before(app, body, is_async=is_async)
    async with Harness(app) as harness:
        run = await work.ainvoke()
        await body.begun()
        draining = await drain(harness)
        body.gate.set()
        await draining
        assert await run.aresult("1s") == "done"
    assert body.calls == 1


async def test_a_run_whose_last_step_ends_in_a_drain_completes(app: TaskFlow) -> None:
    """S4.7: what is left to do is to return."""
    body = Body()

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> str:
        return await step.run("last", body.wait)

    async with Harness(app) as harness:
        run = await work.ainvoke()
        await body.begun()
        draining = await drain(harness)
        body.gate.set()
        await draining
        assert await run.aresult("1s") == "done"


@both_kinds
async def test_a_drain_ends_at_the_next_step(app: TaskFlow, is_async: bool) -> None:
    """S4.7: the step is not executed here, and the run goes to others."""
    body = Body()
    steps: list[str] = []

    def next_step() -> str:
        steps.append("next")
        return "stepped"

    @app.function(id="work")
    async def work(ctx: Context[Step], step: Step) -> str:
        await body.wait()
        return await step.run("next", next_step)

    @app.function(id="blocking")
    def blocking(ctx: Context[BlockingStep], step: BlockingStep) -> str:
        body.block()
        return step.run("next", next_step)

    async with Harness(app) as harness:
        run = await (work if is_async else blocking).ainvoke()
        await body.begun()
        draining = await drain(harness)
        body.gate.set()
        await draining
        assert not steps
        assert await run.astatus() is RunStatus.QUEUED
        harness.workers[0].executor.is_draining = False
        harness.workers[0].executor.look_for_work("default")
        assert await run.aresult("1s") == "stepped"
    assert (body.calls, steps) == (2, ["next"])


async def test_what_a_handler_makes_of_a_refused_step_does_not_count(app: TaskFlow) -> None:
    """S4.6, S4.7: user code that swallows Suspend would complete the run with what it made of that."""
    body = Body()

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> str:
        await body.wait()
        try:
            return await step.run("next", lambda: "stepped")
        except BaseException as error:
            assert isinstance(error, Suspend)
            return "made up"

    async with Harness(app) as harness:
        run = await work.ainvoke()
        await body.begun()
        draining = await drain(harness)
        body.gate.set()
        await draining
        assert await run.astatus() is RunStatus.QUEUED


async def test_a_drain_does_not_wait_for_branches_between_steps(app: TaskFlow) -> None:
    """S4.7: with several branches nobody can know whether one of them waits for another, which gets no step any more."""
    body, lock = Body(), asyncio.Lock()

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> None:
        async def branch(number: int) -> None:
            async with lock:
                await step.run(f"step {number}", body.wait)
                await step.sleep(f"nap {number}", "1s")

        await asyncio.gather(branch(1), branch(2))

    async with Harness(app) as harness:
        run = await work.ainvoke()
        await body.begun()
        draining = await drain(harness)
        body.gate.set()
        async with asyncio.timeout(5):
            await draining
        assert await run.astatus() is RunStatus.QUEUED


async def test_a_body_of_several_tasks_is_waited_for(app: TaskFlow) -> None:
    """S4.7"""
    one, other = Body(), Body()

    @app.function()
    async def work(ctx: Context[Step]) -> list[str]:
        return list(await asyncio.gather(one.wait(), other.wait()))

    async with Harness(app) as harness:
        run = await work.ainvoke()
        await one.begun()
        await other.begun()
        draining = await drain(harness)
        one.gate.set()
        other.gate.set()
        await draining
        assert await run.aresult("1s") == ["done", "done"]


# --- cancellation ---


@both_kinds
async def test_a_body_ends_before_its_run_is_cancelled(app: TaskFlow, is_async: bool) -> None:
    """S4.7, S6.2: as a step that executes."""
    body = Body()
    work = function_without_steps(app, body, is_async=is_async)
    async with Harness(app) as harness:
        run = await work.ainvoke()
        await body.begun()
        assert await run.acancel("stop") is True
        assert await run.astatus() is RunStatus.RUNNING
        body.gate.set()
        with pytest.raises(RunCancelled, match="stop"):
            await run.aresult("2s")
        await harness.settled()
        assert harness.slots_in_use == 0
    assert body.ended == 1


@both_kinds
async def test_a_body_that_fails_while_its_run_is_cancelled_is_not_tried_again(
    app: TaskFlow, is_async: bool
) -> None:
    """S4.7, S6.2: whether the process knows of the cancellation by then or not."""
    calls: list[str] = []

    def fail(run_id: str) -> None:
        calls.append(run_id)
        asyncio.run_coroutine_threadsafe(app.run(run_id).acancel("stop"), loop).result(5)
        raise ValueError("no stock")

    @app.function(id="work", retries=SOON)
    async def work(ctx: Context[Step]) -> None:
        await asyncio.to_thread(fail, ctx.run_id)

    @app.function(id="blocking", retries=SOON)
    def blocking(ctx: Context[BlockingStep]) -> None:
        fail(ctx.run_id)

    async with Harness(app) as harness:
        loop = harness.loop
        run = await harness.start(work if is_async else blocking)
        with pytest.raises(RunCancelled, match="stop"):
            await run.aresult("2s")
        await harness.advance(seconds=5)
        assert harness.slots_in_use == 0
    assert calls == [run.id]


# --- attempts ---


def fail_at(calls: list[int], failures: int) -> str:
    calls.append(1)
    if len(calls) <= failures:
        raise ValueError(f"failure {len(calls)}")
    return "done"


@both_kinds
@pytest.mark.parametrize("failures", [1, 2, 3])
async def test_each_failed_attempt_of_a_body_is_recorded(
    app: TaskFlow, is_async: bool, failures: int
) -> None:
    """S4.7, S10.2: with its error and its times; the third of three ends the run."""
    calls: list[int] = []

    @app.function(id="work", retries=SOON)
    async def work(ctx: Context[Step]) -> str:
        return fail_at(calls, failures)

    @app.function(id="blocking", retries=SOON)
    def blocking(ctx: Context[BlockingStep]) -> str:
        return fail_at(calls, failures)

    async with Harness(app) as harness:
        run = await harness.start(work if is_async else blocking)
        start_ms = harness.clock.now_ms()
        await harness.advance(seconds=5)
        view = await stored(harness, run)
        assert view.status is (RunStatus.FAILED if failures == 3 else RunStatus.COMPLETED)
        told = view.to_json(0)["failed_attempts"]
        assert isinstance(told, list) and len(told) == failures
        for number, attempt in enumerate(view.failed_attempts):
            assert str(attempt.error) == f"ValueError: failure {number + 1}"
            assert "fail_at" in attempt.error.stack
            assert attempt.started_ms == attempt.ended_ms == start_ms + number * 1000
            assert attempt.worker == harness.workers[0].child_id


async def test_attempts_before_a_step_that_completed_are_not_told_of_any_more(app: TaskFlow) -> None:
    """S5.1: the counter begins anew with each step that completes."""
    calls: list[int] = []

    @app.function(retries=SOON)
    async def work(ctx: Context[Step], step: Step) -> str:
        fail_at(calls, 2)
        await step.run("one", lambda: None)
        return fail_at(calls, 4)

    async with Harness(app) as harness:
        run = await harness.start(work)
        await harness.advance(seconds=2)
        view = await stored(harness, run)
        assert [str(each.error) for each in view.failed_attempts] == ["ValueError: failure 4"]
        await harness.advance(seconds=2)
        assert await run.aresult("1s") == "done"


# --- timeouts.step ---


@pytest.mark.parametrize("make", [asyncio.Event().wait, lambda: asyncio.gather(asyncio.Event().wait())])
async def test_a_body_that_takes_too_long_is_cancelled_and_tried_again(
    app: TaskFlow, make: Callable[[], Any]
) -> None:
    """S4.7, S6.3"""
    ended: list[str] = []

    @app.function(timeouts=Timeouts(step="20ms"), retries=SOON)
    async def work(ctx: Context[Step]) -> str:
        if len(ended) == 2:
            return "in time"
        try:
            await make()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return "?"

    async with Harness(app) as harness:
        run = await harness.start(work)
        await until_failed(harness, run, 1)
        await harness.advance(seconds=1)
        await until_failed(harness, run, 2)
        await harness.advance(seconds=1)
        assert await run.aresult("1s") == "in time"
        view = await stored(harness, run)
        for attempt in view.failed_attempts:
            assert attempt.error.name == "StepTimeout"
            assert "shop/work took longer than timeouts.step (20 ms)" in attempt.error.message
    assert ended == ["cancelled", "cancelled"]


async def until_failed(harness: Harness, run: Run, attempts: int) -> None:
    async def has_failed() -> bool:
        view = await stored(harness, run)
        return view.status is RunStatus.WAITING and view.attempt == attempts

    await until(has_failed, description=f"failed attempt {attempts}")


async def test_a_body_in_a_thread_that_takes_too_long_is_abandoned(app: TaskFlow) -> None:
    """S4.7, S6.3: its process asks to be replaced; what the thread does later meets no run."""
    body, reasons, late = Body(), list[str](), list[BaseException]()

    @app.function(timeouts=Timeouts(step="20ms"), retries=0)
    def work(ctx: Context[BlockingStep], step: BlockingStep) -> str:
        body.block()
        try:
            return step.run("late", lambda: "stepped")
        except BaseException as error:
            late.append(error)
            raise

    harness = Harness(app)
    harness.workers[0].on_recycle = reasons.append
    async with harness:
        run = await work.ainvoke()
        with pytest.raises(RunFailed) as caught:
            await run.aresult("2s")
        assert caught.value.name == "StepTimeout"
        assert harness.slots_in_use == 0
        assert len(reasons) == 1
        assert "shop/work" in reasons[0]
        body.gate.set()
        await until(lambda: late, description="the thread to call its step")


@both_kinds
async def test_the_time_limit_of_a_body_ends_with_its_first_step(app: TaskFlow, is_async: bool) -> None:
    """S4.7: code between steps has none, and the run is suspended though the time is not over."""
    body = Body()

    @app.function(id="work", timeouts=Timeouts(step="50ms"), retries=0)
    async def work(ctx: Context[Step], step: Step) -> str:
        await step.sleep("nap", "1s")
        return await body.wait()

    @app.function(id="blocking", timeouts=Timeouts(step="50ms"), retries=0)
    def blocking(ctx: Context[BlockingStep], step: BlockingStep) -> str:
        step.sleep("nap", "1s")
        return body.block()

    async with Harness(app) as harness:
        run = await harness.start(work if is_async else blocking)
        assert harness.slots_in_use == 0
        advancing = asyncio.create_task(harness.advance(seconds=1))
        await body.begun()
        await asyncio.wait([advancing], timeout=0.1)
        body.gate.set()
        await advancing
        assert await run.aresult("1s") == "done"


async def test_a_body_without_retries_fails_once(app: TaskFlow) -> None:
    """S5.3"""
    calls: list[int] = []

    @app.function()
    async def work(ctx: Context[Step]) -> None:
        calls.append(1)
        raise NonRetriableError("never")

    async with Harness(app) as harness:
        run = await harness.start(work)
        view = await stored(harness, run)
        assert [str(attempt.error) for attempt in view.failed_attempts] == ["NonRetriableError: never"]
    assert calls == [1]
