"""A run may execute in another queue than its function's, where it stays; a queue can be paused. Rules S7.2, S10.4."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import ConfigError
from taskflow.function import Function
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from taskflow.worker.child.runner import AppRunner, RunnerOptions


@asynccontextmanager
async def worker(harness: Harness, app: TaskFlow, *queues: str) -> AsyncIterator[None]:
    """A worker of these queues."""
    runner = AppRunner(app, RunnerOptions(queues=queues), child_id=f"{queues[0]}:1", clock=harness.clock)
    await runner.start()
    harness.workers.append(runner)
    try:
        yield
    finally:
        harness.workers.remove(runner)
        await runner.stop()


def define(app: TaskFlow, failures: list[int]) -> Function[..., Coroutine[Any, Any, str]]:
    @app.function(trigger="order", retries=1)
    async def work(ctx: Context[Step]) -> str:
        def once() -> str:
            if failures:
                raise ValueError(failures.pop())
            return "done"

        await ctx.step.sleep("nap", "1m")
        return await ctx.step.run("once", once)

    return work


async def status(app: TaskFlow, run_id: str) -> RunStatus:
    return await app.run(run_id).astatus()


async def test_a_run_that_is_sent_to_a_queue_executes_there_with_its_steps_retries_and_reruns(
    app: TaskFlow,
) -> None:
    failures = [1]
    work = define(app, failures)
    async with Harness(app) as harness:
        run = await work.ainvoke({}, queue="gpu")
        await harness.advance(minutes=5)
        assert await run.astatus() is RunStatus.QUEUED
        view = await run.aview()
        assert view.queue == "gpu"
        async with worker(harness, app, "gpu"):
            await harness.advance(seconds=1)
            assert await run.astatus() is RunStatus.WAITING
        await harness.advance(minutes=5)
        assert await run.astatus() is RunStatus.QUEUED  # awake, but nobody serves the queue
        async with worker(harness, app, "gpu"):
            await harness.advance(minutes=5)
            assert await run.astatus() is RunStatus.COMPLETED
            assert not failures
        again = await app.arerun(run.id)
        await harness.advance(minutes=5)
        assert await status(app, again.id) is RunStatus.QUEUED
        assert (await again.aview()).queue == "gpu"
        async with worker(harness, app, "gpu"):
            await harness.advance(minutes=5)
            assert await again.aresult() == "done"


async def test_an_invoked_run_goes_to_the_queue_that_its_step_names(app: TaskFlow) -> None:
    work = define(app, [])

    @app.function(trigger="start")
    async def parent(ctx: Context[Step]) -> str:
        return await ctx.step.invoke("child", function=work, queue="gpu")

    @app.function(trigger="start-blocking")
    def blocking_parent(ctx: Context[BlockingStep]) -> object:
        return ctx.step.invoke("child", function=work, queue="gpu")

    async with Harness(app) as harness:
        runs = [await parent.ainvoke(), await blocking_parent.ainvoke()]
        await harness.advance(minutes=5)
        children = await app.aruns(work)
        assert [(child.queue, child.status) for child in children] == [("gpu", "queued")] * 2
        async with worker(harness, app, "gpu"):
            await harness.advance(minutes=5)
            assert [await run.aresult() for run in runs] == ["done", "done"]


@pytest.mark.parametrize("queue", ["", "a b", "a/b", 7])
async def test_what_cannot_be_a_queue_is_refused(app: TaskFlow, queue: str) -> None:
    work = define(app, [])

    @app.function(retries=0)
    async def parent(ctx: Context[Step]) -> None:
        await ctx.step.invoke("child", function=work, queue=queue)

    async with Harness(app) as harness:
        with pytest.raises(ConfigError, match="queue must have 1 to 64 of the characters"):
            await work.ainvoke({}, queue=queue)
        run = await parent.ainvoke()
        await harness.settled()
        assert await run.astatus() is RunStatus.FAILED


async def test_a_paused_queue_holds_its_runs_until_it_is_resumed_and_tells_so(app: TaskFlow) -> None:
    work = define(app, [])
    async with Harness(app) as harness:
        before = await work.ainvoke()
        await harness.settled()
        await app.queues.apause("default")
        after = await work.ainvoke()
        await harness.advance(minutes=5)
        for run in (before, after):
            view = await run.aview()
            assert view.status is RunStatus.QUEUED
            assert view.why is not None
            assert view.why.startswith("queue paused since ")
            assert view.why.endswith(": taskflow queues resume shop/default")
        (queue,) = [each for each in await app.queues.alist() if each.name == "default"]
        assert (queue.id, queue.queued, queue.running) == ("shop/default", 2, 0)
        assert queue.paused_ms is not None
        assert await app.queues.aresume("default")
        await harness.advance(minutes=5)
        assert [await run.aresult() for run in (before, after)] == ["done", "done"]
        assert not await app.queues.aresume("default")
        (queue,) = await app.queues.alist()
        assert (queue.queued, queue.waiting, queue.paused_ms) == (0, 0, None)


async def test_a_queue_that_nothing_knows_is_not_paused(app: TaskFlow) -> None:
    define(app, [])
    async with Harness(app):
        with pytest.raises(ConfigError, match=r"there is no queue 'shop/defalt'.*'shop/default'"):
            await app.queues.apause("defalt")


def test_queues_are_for_code_without_a_loop_too(app: TaskFlow) -> None:
    assert list(app.queues.list()) == []
    assert app.queues.resume("default") is False
    app.close()
