"""S6: cancelling runs, by hand and by the clock."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from click.testing import CliRunner

from taskflow.app import TaskFlow
from taskflow.cancellation import Timeouts
from taskflow.cli import main
from taskflow.context import Context
from taskflow.errors import ConfigError, RunCancelled, RunFailed, RunNotFound, StepError, StepTimeout
from taskflow.handle import Run, RunStatus
from taskflow.retries import Retries
from taskflow.step import BlockingStep, Step
from taskflow.testing import Harness
from tests.waiting import until

CANCELLED = "taskflow/function.cancelled"


def watch(app: TaskFlow) -> list[dict[str, Any]]:
    """The data of all events that tell of cancelled runs."""
    told: list[dict[str, Any]] = []

    @app.function(trigger=CANCELLED)
    async def watcher(ctx: Context[Step]) -> None:
        told.append(ctx.event.data)

    return told


async def nothing_is_left_of(harness: Harness, run: Run) -> None:
    """No timer, wait, ready entry or claim is the run's."""
    client, prefix = harness.store.client, harness.store.keys.prefix
    found = []
    for key in await client.call("KEYS", f"{prefix}*"):
        name = key.decode().removeprefix(prefix)
        if name == "timers" or name.startswith("ready:"):
            members = await client.call("ZRANGE", key, 0, -1)
        elif name.startswith("waits:"):
            members = await client.call("SMEMBERS", key)
        elif name.startswith("claims:"):
            members = await client.call("HKEYS", key)
        else:
            members = [key] if name.startswith("joins:") else []
        found += [(name, member) for member in members if run.id.encode() in member]
    assert not found


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


# --- S6.2: after the running step ---


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
        assert (view.steps["work"].state, view.steps["work"].result) == ("done", "worked")
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
        assert {key: step.result for key, step in steps.items() if step.state == "done"} == {
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
    """S6.2: it awaits raw I/O outside a step."""
    entered = asyncio.Event()
    seen: list[str] = []

    @app.function()
    async def raw(ctx: Context[Step]) -> None:
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


# --- S6.3: timeouts.start and timeouts.finish ---


async def test_a_run_that_is_queued_for_too_long_is_cancelled(app: TaskFlow) -> None:
    """S6.3: `start` counts until the first attempt."""
    told = watch(app)
    gate = asyncio.Event()
    started: list[str] = []

    @app.function(timeouts=Timeouts(start="10s"))
    async def work(ctx: Context[Step], step: Step) -> None:
        started.append(ctx.run_id)
        await step.run("wait", gate.wait)

    async with Harness(app, concurrency=1) as harness:
        first = await work.ainvoke()
        await until(lambda: started, description="the first run to take the slot")
        late = await work.ainvoke()
        harness.clock.advance(seconds=10)
        await harness.store.client.call("LPUSH", harness.store.keys.nudge, 1)
        with pytest.raises(RunCancelled, match=r"not started within timeouts\.start"):
            await late.aresult("3s")
        gate.set()
        await first.aresult("3s")
        await harness.settled()
        await nothing_is_left_of(harness, late)
        assert await harness.next_due_ms() is None
    assert started == [first.id]
    assert [(data["run_id"], data["error"]["name"]) for data in told] == [(late.id, "RunTimeout")]


async def test_the_start_timeout_counts_from_when_the_run_is_due(app: TaskFlow) -> None:
    """S6.3, S1.4: a delayed run is not late before its time; one that has started isn't either."""

    @app.function(trigger="later", timeouts=Timeouts(start="10s"))
    async def work(ctx: Context[Step], step: Step) -> str:
        await step.sleep("nap", "1h")
        return "done"

    async with Harness(app) as harness:
        (event_id,) = await harness.send("later", ts=harness.clock.now_ms() + 3_600_000)
        run = await harness.run_of(work, event_id)
        await harness.advance(hours=3)
        assert await run.aresult("1s") == "done"


@pytest.mark.parametrize("kind", ["sleeping", "retrying"])
async def test_a_run_that_takes_too_long_is_cancelled(app: TaskFlow, kind: str) -> None:
    """S6.3: `finish` counts from the first attempt, whatever the run does."""
    told = watch(app)

    def fail() -> None:
        raise ValueError

    @app.function(
        timeouts=Timeouts(finish="30s"), retries=Retries(20, initial="7s", maximum="7s", jitter=False)
    )
    async def work(ctx: Context[Step], step: Step) -> None:
        if kind == "retrying":
            fail()
        await step.sleep("nap", "1h")

    async with Harness(app) as harness:
        run = await harness.start(work)
        await harness.advance(seconds=29)
        assert await run.astatus() is RunStatus.WAITING
        await harness.advance(seconds=1)
        with pytest.raises(RunCancelled, match=r"did not finish within timeouts\.finish"):
            await run.aresult("1s")
        await nothing_is_left_of(harness, run)
        assert await harness.next_due_ms() is None
    assert [(data["run_id"], data["error"]["name"]) for data in told] == [(run.id, "RunTimeout")]


async def test_the_finish_timeout_lets_an_executing_step_end(app: TaskFlow) -> None:
    """S6.3, S6.2"""
    entered, gate = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        entered.set()
        await gate.wait()
        return "worked"

    @app.function(timeouts=Timeouts(finish="30s"))
    async def flow(ctx: Context[Step], step: Step) -> None:
        await step.run("work", work)
        await step.run("next", work)

    async with Harness(app) as harness:
        run = await flow.ainvoke()
        await entered.wait()
        harness.clock.advance(seconds=30)
        await harness.store.client.call("LPUSH", harness.store.keys.nudge, 1)
        key = harness.store.keys.run(run.id)
        await until(
            lambda: harness.store.client.call("HEXISTS", key, "cancel"), description="the request to end"
        )
        assert await run.astatus() is RunStatus.RUNNING
        gate.set()
        with pytest.raises(RunCancelled, match=r"timeouts\.finish"):
            await run.aresult("2s")
        await harness.advance(seconds=5)
        assert (await harness.view(run)).steps["work"].result == "worked"
        await nothing_is_left_of(harness, run)


async def test_a_run_that_finishes_in_time_leaves_no_timer(app: TaskFlow) -> None:
    """S6.3"""

    @app.function(timeouts=Timeouts(start="10s", finish="30s"))
    async def quick(ctx: Context[Step], step: Step) -> str:
        await step.sleep("nap", "5s")
        return "done"

    async with Harness(app) as harness:
        run = await harness.start(quick)
        await harness.advance(seconds=5)
        assert await run.aresult("1s") == "done"
        assert await harness.next_due_ms() is None
        await harness.advance(minutes=5)
        assert await run.astatus() is RunStatus.COMPLETED


@pytest.mark.parametrize("option", ["start", "finish", "step"])
def test_a_timeout_of_nothing_is_refused(option: str) -> None:
    """S6.3, S2.5"""
    with pytest.raises(ConfigError, match=f"timeouts.{option} must be more than 0"):
        Timeouts(**{option: 0})


# --- S6.3: timeouts.step ---


async def test_an_async_step_that_takes_too_long_is_cancelled_and_tried_again(app: TaskFlow) -> None:
    """S6.3: StepTimeout fails the attempt; it is as retriable as any failure."""
    ended: list[str] = []

    async def slow() -> str:
        if len(ended) == 2:
            return "in time"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return "?"

    @app.function(timeouts=Timeouts(step="20ms"), retries=Retries(2, initial="1s", jitter=False))
    async def work(ctx: Context[Step], step: Step) -> str:
        return await step.run("slow", slow)

    async with Harness(app) as harness:
        run = await harness.start(work)
        await harness.advance(seconds=3)
        assert await run.aresult("1s") == "in time"
        stored = await harness.store.history.run(run.id)
        assert stored is not None
        assert b"StepTimeout" in stored.steps["slow"]
    assert ended == ["cancelled", "cancelled"]


@pytest.mark.parametrize("kind", ["async", "blocking"])
async def test_a_step_that_always_takes_too_long_raises_step_timeout(app: TaskFlow, kind: str) -> None:
    """S6.3, S5.4: with the limit in its text."""
    seen: list[StepError] = []

    async def slow() -> None:
        await asyncio.Event().wait()

    @app.function(timeouts=Timeouts(step="20ms"), retries=0)
    async def work(ctx: Context[Step], step: Step) -> None:
        try:
            await step.run("slow", slow)
        except StepTimeout as error:
            seen.append(error)
        await step.sleep("nap", 1)

    @app.function(timeouts=Timeouts(step="20ms"), retries=0)
    def blocking_work(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        try:
            step.run("slow", slow)
        except StepTimeout as error:
            seen.append(error)
        step.sleep("nap", 1)

    async with Harness(app) as harness:
        run = await harness.start(work if kind == "async" else blocking_work)
        await harness.advance(seconds=1)
        assert await run.astatus() is RunStatus.COMPLETED
    first, replayed = seen
    for error in (first, replayed):
        assert (error.name, error.step_id) == ("StepTimeout", "slow")
        assert "longer than timeouts.step (20 ms)" in error.message


async def test_a_step_timeout_that_is_not_caught_fails_the_run(app: TaskFlow) -> None:
    """S6.3"""

    @app.function(timeouts=Timeouts(step="20ms"), retries=0)
    async def work(ctx: Context[Step], step: Step) -> None:
        await step.run("slow", asyncio.sleep, 5)

    async with Harness(app) as harness:
        run = await harness.start(work)
        with pytest.raises(RunFailed) as caught:
            await run.aresult("1s")
        assert caught.value.name == "StepTimeout"


async def test_a_sync_step_that_takes_too_long_is_abandoned_and_its_process_replaced(app: TaskFlow) -> None:
    """S6.3: the run goes on; the worker asks to be replaced, for the thread can't be stopped."""
    gate = threading.Event()
    reasons: list[str] = []

    def stuck() -> None:
        gate.wait(10)

    @app.function(timeouts=Timeouts(step="20ms"), retries=0)
    async def work(ctx: Context[Step], step: Step) -> str:
        try:
            await step.run("stuck", stuck)
        except StepTimeout:
            return "went on"
        return "?"

    harness = Harness(app)
    harness.workers[0].on_recycle = reasons.append
    async with harness:
        run = await harness.start(work)
        assert await run.aresult("1s") == "went on"
        assert harness.slots_in_use == 0
        assert len(reasons) == 1
        assert "'stuck'" in reasons[0]
        gate.set()


async def test_a_sync_step_that_ends_in_time_recycles_nothing(app: TaskFlow) -> None:
    """S6.3"""
    reasons: list[str] = []

    @app.function(timeouts=Timeouts(step="5s"), retries=0)
    def work(ctx: Context[BlockingStep], step: BlockingStep) -> int:
        return step.run("quick", lambda: 1)

    harness = Harness(app)
    harness.workers[0].on_recycle = reasons.append
    async with harness:
        run = await harness.start(work)
        assert await run.aresult("1s") == 1
    assert not reasons


@pytest.mark.parametrize("own", ["asyncio.timeout", "raise"])
async def test_a_timeout_error_of_the_users_own_is_not_taken_for_step_timeout(
    app: TaskFlow, own: str
) -> None:
    """S6.3: the step has a limit of its own inside."""

    async def call() -> None:
        if own == "raise":
            raise TimeoutError("mine")
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    @app.function(timeouts=Timeouts(step="5s"), retries=0)
    async def work(ctx: Context[Step], step: Step) -> str:
        try:
            await step.run("call", call)
        except StepError as error:
            return error.name
        return "?"

    async with Harness(app) as harness:
        run = await harness.start(work)
        assert await run.aresult("1s") == "TimeoutError"
