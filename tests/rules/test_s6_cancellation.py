"""S6.1, S6.2: cancelling runs by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from click.testing import CliRunner

from taskflow.app import TaskFlow
from taskflow.cli import main
from taskflow.context import Context
from taskflow.errors import RunCancelled, RunNotFound, StepError
from taskflow.retries import Retries
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.rules.endings import nothing_is_left_of, watch
from tests.waiting import until

# --- S6.1 ---


async def test_a_run_is_cancelled_by_its_handle(app: TaskFlow) -> None:
    """S6.1: `run.acancel()`, with a reason; who waits for the result learns of it."""

    @app.function()
    async def nap(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1d")

    async with Harness(app) as harness:
        run = await harness.start(nap)
        waiting = asyncio.create_task(run.aresult("2s"))
        assert await run.acancel("changed my mind") is True
        with pytest.raises(RunCancelled, match="changed my mind") as caught:
            await waiting
        assert caught.value.reason == "changed my mind"
        assert await run.astatus() is RunStatus.CANCELLED


async def test_sync_code_cancels_a_run_too(app: TaskFlow) -> None:
    """S6.1: `run.cancel()`, from a thread without a loop."""

    @app.function()
    async def nap(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1d")

    async with Harness(app) as harness:
        run = await harness.start(nap)
        assert await asyncio.to_thread(run.cancel) is True
        assert await asyncio.to_thread(run.status) is RunStatus.CANCELLED


async def test_an_unknown_run_can_not_be_cancelled(app: TaskFlow) -> None:
    """S6.1"""
    with pytest.raises(RunNotFound, match="there is no run nonsense"):
        await app.run("nonsense").acancel()


async def test_the_command_line_cancels_a_run(app: TaskFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    """S6.1: `taskflow runs cancel RUN_ID`."""
    pytest.importorskip("taskflow.commands.runs")
    told = watch(app)

    @app.function()
    async def nap(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1d")

    monkeypatch.setenv("TASKFLOW_STORE", app.config.store)
    monkeypatch.setenv("TASKFLOW_BROKER", app.config.broker)
    monkeypatch.setenv("TASKFLOW_NAMESPACE", app.config.namespace)
    async with Harness(app) as harness:
        run = await harness.start(nap)
        result = await asyncio.to_thread(CliRunner().invoke, main, ["runs", "cancel", run.id])
        assert result.exit_code == 0, result.output
        await harness.settled()
        assert await run.astatus() is RunStatus.CANCELLED
        assert [data["run_id"] for data in told] == [run.id]
        result = await asyncio.to_thread(CliRunner().invoke, main, ["runs", "cancel", "nonsense"])
        assert result.exit_code == 1


# --- S6.2: at once ---


async def test_a_queued_run_is_cancelled_at_once(app: TaskFlow) -> None:
    """S6.2"""
    told = watch(app)
    gate = asyncio.Event()
    started: list[int] = []

    @app.function()
    async def busy(ctx: Context[Step], step: Step) -> None:
        started.append(1)
        await step.run("wait", gate.wait)

    async with Harness(app, concurrency=1) as harness:
        first = await busy.ainvoke()
        await until(lambda: started, description="the first run to take the slot")
        queued = await busy.ainvoke()
        assert await queued.astatus() is RunStatus.QUEUED
        assert await queued.acancel() is True
        assert await queued.astatus() is RunStatus.CANCELLED
        await nothing_is_left_of(harness, queued)
        gate.set()
        await first.aresult("2s")
        await harness.settled()
    assert started == [1]
    assert [data["run_id"] for data in told] == [queued.id]


async def test_a_scheduled_run_is_cancelled_at_once(app: TaskFlow) -> None:
    """S6.2, S1.4: a run whose event lies in the future."""
    told = watch(app)
    started: list[int] = []

    @app.function(trigger="later")
    async def later(ctx: Context[Step]) -> None:
        started.append(1)

    async with Harness(app) as harness:
        (event_id,) = await harness.send("later", ts=harness.clock.now_ms() + 60_000)
        run = await harness.run_of(later, event_id)
        assert await run.astatus() is RunStatus.SCHEDULED
        assert await run.acancel() is True
        await nothing_is_left_of(harness, run)
        await harness.advance(hours=1)
    assert not started
    assert len(told) == 1


@pytest.mark.parametrize(
    "kind", ["sleeping", "waiting", "joining", "retrying a step", "retrying the handler", "invoking"]
)
async def test_a_run_that_does_not_execute_is_cancelled_at_once(app: TaskFlow, kind: str) -> None:
    """S6.2: nothing of it is left, and nothing of it happens later."""
    told = watch(app)
    later: list[str] = []

    def fail() -> None:
        raise ValueError("not yet")

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1h")

    @app.function(retries=Retries(4, initial="10s", jitter=False))
    async def work(ctx: Context[Step], step: Step) -> None:
        match kind:
            case "sleeping":
                await step.sleep("nap", "1h")
            case "waiting":
                await step.wait_for_event("paid", "paid", timeout="1h", match="data.order")
            case "joining":
                await asyncio.gather(
                    *[step.sleep(f"nap {n}", "1h") for n in range(3)],
                    step.wait_for_event("e", ["a", "b"], timeout="2h"),
                )
            case "retrying a step":
                await step.run("fail", fail)
            case "retrying the handler":
                fail()
            case "invoking":
                await step.invoke("child", function=child, timeout="10h")
        await step.run("later", later.append, "later")

    async with Harness(app) as harness:
        run = await harness.start(work, {"order": 1})
        assert await run.astatus() is RunStatus.WAITING
        assert await run.acancel("enough") is True
        assert await run.astatus() is RunStatus.CANCELLED
        await nothing_is_left_of(harness, run)
        await harness.send("paid", {"order": 1})
        await harness.advance(hours=20)
        view = await harness.view(run)
        assert view.status is RunStatus.CANCELLED
        assert not [step for step in view.steps.values() if step.state in ("wait", "retry")]
    assert not later
    (data,) = told
    assert (data["run_id"], data["function_id"]) == (run.id, "shop/work")
    assert (data["error"]["name"], data["error"]["message"]) == ("Cancelled", "enough")
    assert data["event"]["data"] == {"order": 1}


async def test_the_children_of_invoke_go_on(app: TaskFlow) -> None:
    """S6.2"""

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> str:
        await step.sleep("nap", "1h")
        return "child is done"

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> Any:
        return await step.invoke("child", function=child)

    async with Harness(app) as harness:
        run = await harness.start(parent)
        await run.acancel()
        (born,) = await harness.runs(child)
        assert await born.astatus() is RunStatus.WAITING
        await harness.advance(hours=1)
        assert await born.aresult("1s") == "child is done"
        assert await run.astatus() is RunStatus.CANCELLED


async def test_cancelling_a_child_fails_the_step_of_its_parent(app: TaskFlow) -> None:
    """S6.2, S3.6"""

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1h")

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> str:
        try:
            await step.invoke("child", function=child)
        except StepError as error:
            return f"{error.name}: {error.message}"
        return "?"

    async with Harness(app) as harness:
        run = await harness.start(parent)
        (born,) = await harness.runs(child)
        await born.acancel("no longer needed")
        await harness.settled()
        assert await run.aresult("1s") == "Cancelled: no longer needed"
