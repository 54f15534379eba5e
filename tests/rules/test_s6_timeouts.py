"""S6.3: runs and steps that take too long."""

from __future__ import annotations

import asyncio
import threading

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import ConfigError, RunCancelled, RunFailed, StepError, StepTimeout
from taskflow.retries import Retries
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from taskflow.timeouts import Timeouts
from tests.rules.endings import nothing_is_left_of, watch
from tests.waiting import until

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
        assert (await harness.view(run)).steps["work"].output == "worked"
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
        assert "longer than its time limit (20 ms)" in error.message


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


async def test_a_step_may_have_a_time_limit_of_its_own(app: TaskFlow) -> None:
    """S6.3: it beats that of the function, whichever is shorter."""

    async def rest(rest_s: float) -> float:
        await asyncio.sleep(rest_s)
        return rest_s

    @app.function(timeouts=Timeouts(step="30ms"), retries=0)
    async def work(ctx: Context[Step], step: Step) -> list[str]:
        told = [str(await step.with_options(timeout="10s").run("longer", rest, 0.1))]
        try:
            await step.with_options(timeout="10ms").run("shorter", rest, 10)
        except StepError as error:
            told.append(error.message)
        return told

    async with Harness(app):
        run = await work.ainvoke()
        assert await run.aresult("5s") == ["0.1", "step 'shorter' took longer than its time limit (10 ms)"]
