"""S15.1, S15.2: the attempts of a task, their limits, and what a crash and a drain do to them."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.errors import ConfigError, RunFailed, SoftTimeLimit
from taskflow.retries import Retries
from taskflow.run import RunStatus
from taskflow.tasks.context import TaskContext
from taskflow.testing import Harness
from taskflow.timeouts import Timeouts
from tests.rules.givens import both_kinds
from tests.waiting import until

SOON = Retries(2, initial="1s", multiplier=1, jitter=False)


async def test_each_attempt_is_recorded_and_the_arguments_stay(app: TaskFlow) -> None:
    """S15.1, S15.2: with start, end, worker and error; the retry waits in the store."""

    @app.task(id="flaky", retries=SOON)
    def flaky(ctx: TaskContext, name: str) -> str:
        if ctx.attempt < 2:
            raise ValueError(f"no {name} in attempt {ctx.attempt}")
        return f"{name} {ctx.attempt}"

    async with Harness(app) as harness:
        run = await flaky.adelay("stock")
        await harness.settled()
        assert await run.astatus() is RunStatus.WAITING and harness.slots_in_use == 0
        await harness.finish(run)
        assert await run.aresult("1s") == "stock 2"
        view = await harness.view(run)
        assert [attempt.error.message for attempt in view.failed_attempts] == [
            "no stock in attempt 0", "no stock in attempt 1"
        ]  # fmt: skip
        assert all(
            attempt.worker and attempt.started_ms <= attempt.ended_ms for attempt in view.failed_attempts
        )


async def test_exceptions_decide_whether_it_is_tried_again(app: TaskFlow) -> None:
    """S5.3"""

    @app.task(id="work", retries=SOON, retry_on=ConnectionError, give_up_on=ConnectionRefusedError)
    async def work(kind: str) -> None:
        raise {"lost": ConnectionResetError, "refused": ConnectionRefusedError, "other": KeyError}[kind](kind)

    async with Harness(app) as harness:
        runs = {kind: await work.adelay(kind) for kind in ("lost", "refused", "other")}
        await harness.settled()
        statuses = {kind: await run.astatus() for kind, run in runs.items()}
        assert statuses == {"lost": "waiting", "refused": "failed", "other": "failed"}
        await harness.finish(runs["lost"])
        assert len((await harness.view(runs["lost"])).failed_attempts) == 3


@both_kinds
async def test_a_task_asks_to_be_tried_again(app: TaskFlow, is_async: bool) -> None:
    """S15.2, S5.3: after its own delay, or as its policy says; what was raised before is the cause."""
    attempts: list[int] = []

    def body(ctx: TaskContext) -> str:
        attempts.append(ctx.attempt)
        if ctx.attempt == 0:
            ctx.retry("1h", reason="rate limited")
        if ctx.attempt == 1:
            ctx.retry()
        return "done"

    if is_async:

        @app.task(id="work", retries=SOON, retry_on=OSError)
        async def work(ctx: TaskContext) -> str:
            return body(ctx)

        run_task: Any = work
    else:
        run_task = app.task(id="work", retries=SOON, retry_on=OSError)(body)
    async with Harness(app) as harness:
        run = await run_task.adelay()
        await harness.advance(minutes=59)
        assert attempts == [0]
        await harness.advance(minutes=2)
        assert attempts == [0, 1, 2]
        assert await run.aresult("1s") == "done"
        messages = [attempt.error.message for attempt in (await harness.view(run)).failed_attempts]
        assert messages == ["rate limited", "the task asked to be tried again"]


# --- limits ---


@both_kinds
async def test_the_soft_limit_is_raised_in_the_body_once(app: TaskFlow, is_async: bool) -> None:
    """S15.2: the body may clean up, and go on."""
    seen: list[str] = []

    @app.task(id="work", timeouts=Timeouts(soft=0.05, hard=20), retries=0)
    async def work() -> str:
        try:
            await asyncio.sleep(10)
        except SoftTimeLimit as error:
            seen.append(str(error))
        await asyncio.sleep(0.1)
        return "cleaned up"

    @app.task(id="blocking", timeouts=Timeouts(soft=0.05, hard=20), retries=0)
    def blocking() -> str:
        try:
            for _ in range(1_000):
                time.sleep(0.01)
        except SoftTimeLimit as error:
            seen.append(str(error))
        for _ in range(10):
            time.sleep(0.01)
        return "cleaned up"

    chosen: Any = work if is_async else blocking
    async with Harness(app):
        run = await chosen.adelay()
        assert await run.aresult("5s") == "cleaned up"
    assert seen == [f"{chosen.id} has taken longer than timeouts.soft (50 ms)"]


@both_kinds
async def test_a_soft_limit_that_is_not_caught_is_a_failed_attempt(app: TaskFlow, is_async: bool) -> None:
    """S15.2: tried again if the policy says so; it counts as a TimeoutError."""

    @app.task(id="work", timeouts=Timeouts(soft=0.05), retries=SOON, retry_on=TimeoutError)
    async def work() -> None:
        await asyncio.sleep(10)

    @app.task(id="blocking", timeouts=Timeouts(soft=0.05), retries=SOON, give_up_on=TimeoutError)
    def blocking() -> None:
        for _ in range(1_000):
            time.sleep(0.01)

    chosen: Any = work if is_async else blocking
    async with Harness(app) as harness:
        run = await chosen.adelay()
        status = RunStatus.WAITING if is_async else RunStatus.FAILED

        async def has_failed() -> bool:
            return await run.astatus() is status

        await until(has_failed, description="the attempt to fail")
        (attempt,) = (await harness.view(run)).failed_attempts
        assert attempt.error.name == "SoftTimeLimit"
        await run.acancel()


async def test_a_body_that_ends_before_its_soft_limit_never_meets_it(app: TaskFlow) -> None:
    """S15.2: nor does the next task in the same thread."""

    @app.task(id="quick", timeouts=Timeouts(soft=0.03))
    def quick(n: int) -> int:
        return n

    @app.task(id="long")
    def long() -> str:
        for _ in range(20):
            time.sleep(0.005)
        return "whole"

    async with Harness(app, concurrency=1) as harness:
        runs = [await quick.adelay(n) for n in range(3)]
        last = await long.adelay()
        await harness.settled()
        assert [await run.aresult("1s") for run in runs] == [0, 1, 2]
        assert await last.aresult("2s") == "whole"


async def test_the_hard_limit_ends_the_attempt_whatever_the_body_does(app: TaskFlow) -> None:
    """S15.2: one that catches its cancellation is cancelled again."""
    caught: list[str] = []

    @app.task(id="stubborn", timeouts=Timeouts(soft=0.02, hard=0.05), retries=0)
    async def stubborn() -> str:
        for name in ("soft", "hard"):
            try:
                await asyncio.sleep(5)
            except SoftTimeLimit:
                caught.append("soft")
            except asyncio.CancelledError:
                caught.append(f"{name}: cancelled")
        return "it went on"

    async with Harness(app) as harness:
        run = await stubborn.adelay()
        with pytest.raises(RunFailed, match=r"took longer than timeouts\.hard \(50 ms\)"):
            await run.aresult("5s")
        await harness.settled()
    assert caught == ["soft", "hard: cancelled"]


async def test_a_thread_that_blocks_beyond_its_hard_limit_is_abandoned(app: TaskFlow) -> None:
    """S15.2: its process is replaced, as for a step (S6.3)."""
    gate = threading.Event()

    @app.task(id="stuck", timeouts=Timeouts(hard=0.05), retries=0)
    def stuck() -> None:
        gate.wait(10)

    async with Harness(app) as harness:
        run = await stuck.adelay()
        with pytest.raises(RunFailed, match=r"timeouts\.hard"):
            await run.aresult("5s")
        gate.set()
        await harness.settled()


async def crash(harness: Harness) -> None:
    """All processes die, and are replaced."""
    for worker in harness.workers:
        await harness.store.claims.hand_back(
            worker.executor.child_id,
            [],
            crashed=True,
            cause="killed by the test",
            now_ms=harness.clock.now_ms(),
        )
    for worker in harness.workers:
        worker.executor.look_again()


@pytest.mark.parametrize(
    ("options", "executions", "error"),
    [
        ({"on_crash": "fail"}, 1, "WorkerLost"),
        ({"max_crashes": 2}, 2, "WorkerLost"),
        ({"max_crashes": 4}, 4, "WorkerLost"),
        ({"max_crashes": 5}, 5, ""),
    ],
    ids=["fail", "fewer than the app", "more than the app", "enough"],
)
async def test_a_task_says_how_many_crashes_it_stands(
    app: TaskFlow, options: Any, executions: int, error: str
) -> None:
    """S15.2, S9.8: with "fail" it is not executed again."""
    calls: list[int] = []
    gate = asyncio.Event()

    @app.task(id="work", **options)
    async def work() -> str:
        calls.append(1)
        if len(calls) < 5:
            await gate.wait()
        return "done"

    async with Harness(app, workers=2) as harness:
        run = await work.adelay()
        for count in range(1, min(executions, 4) + 1):
            await until(lambda: len(calls) >= count, description=f"call {count}")  # noqa: B023
            await crash(harness)
        if error:
            with pytest.raises(RunFailed, match=error):
                await run.aresult("5s")
        else:
            assert await run.aresult("5s") == "done"
        assert len(calls) == executions
        gate.set()
        await harness.settled()


def test_options_about_crashes_are_checked(app: TaskFlow) -> None:
    """S2.5"""
    for options, told in (
        ({"on_crash": "ignore"}, "on_crash must be one of"),
        ({"max_crashes": 0}, "from 1 to 100, got 0"),
        ({"on_crash": "fail", "max_crashes": 3}, "drop one"),
    ):
        with pytest.raises(ConfigError, match=told):
            app.task(**options)(never)


def never() -> None: ...


def test_limits_of_tasks_are_checked(app: TaskFlow) -> None:
    """S2.5"""
    with pytest.raises(ConfigError, match="must be less than timeouts.hard"):
        Timeouts(soft="2m", hard="1m")
    with pytest.raises(ConfigError, match="are for tasks"):

        @app.function(timeouts=Timeouts(soft="1m"))
        async def work(ctx: object) -> None: ...


# --- a drain and a cancellation ---


async def test_a_drain_waits_for_the_body(app: TaskFlow) -> None:
    """S15.2: and stores what it came to."""
    entered, gate = threading.Event(), threading.Event()

    @app.task(id="work")
    def work() -> str:
        entered.set()
        assert gate.wait(10)
        return "done"

    async with Harness(app) as harness:
        run = await work.adelay()
        await until(entered.is_set, description="the body to begin")
        draining = asyncio.create_task(harness.workers[0].executor.drain())
        done, _ = await asyncio.wait([draining], timeout=0.05)
        assert not done
        gate.set()
        await draining
        assert await run.aresult("1s") == "done"


async def test_a_task_whose_process_dies_is_executed_again(app: TaskFlow) -> None:
    """S15.1: at least once, and the crash counts no attempt."""
    calls: list[int] = []
    gate = asyncio.Event()

    @app.task(id="work")
    async def work(ctx: TaskContext) -> str:
        calls.append(ctx.attempt)
        if len(calls) == 1:
            await gate.wait()
        return "done"

    async with Harness(app, workers=2) as harness:
        run = await work.adelay()
        await until(lambda: calls, description="the body to begin")
        executor = next(worker.executor for worker in harness.workers if worker.executor.executions)
        await harness.store.claims.hand_back(
            executor.child_id, [], crashed=True, cause="killed by the test", now_ms=harness.clock.now_ms()
        )
        for worker in harness.workers:
            worker.executor.look_again()
        await until(lambda: len(calls) == 2, description="the second call")
        assert await run.aresult("1s") == "done"
        # What the lost claim comes to does not count.
        gate.set()
        await harness.settled()
        assert [attempt.error.name for attempt in (await harness.view(run)).failed_attempts] == []
    assert calls == [0, 0]


# --- in a durable function ---


async def test_a_durable_function_calls_tasks_as_steps(app: TaskFlow) -> None:
    """S15.1, S3.6: each in a run of its own, side by side; the results come in their types."""
    from taskflow.context import Context
    from taskflow.step import Step

    @app.task(id="double")
    def double(ctx: TaskContext, n: int) -> tuple[int, str]:
        assert ctx.parent
        return 2 * n, ctx.parent

    @app.function(id="sum")
    async def total(ctx: Context[Step]) -> int:
        first = await double.step(1)
        assert first == (2, ctx.run_id)
        more = await asyncio.gather(*[double.step(n) for n in range(2, 5)])
        return first[0] + sum(each for each, _ in more)

    async with Harness(app) as harness:
        run = await total.ainvoke()
        await harness.settled()
        assert await run.aresult("1s") == 20
        assert list((await harness.view(run)).steps) == ["double", "double#1", "double#2", "double#3"]
    with pytest.raises(RuntimeError, match=r"double\.step\(\) is for the handler of a durable function"):
        await double.step(1)
