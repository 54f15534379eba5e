"""S5.4 to S5.6: what becomes of a step, or a run, that is out of retries."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import NonRetriableError, RunFailed, StepError
from taskflow.retries import Retries
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.rules.flaky import Flaky

STEADY = Retries(4, initial="10s", multiplier=2, jitter=False)  # 10, 20, 40, 80 s
FAILED = "taskflow/function.failed"


# --- S5.4 ---


async def test_a_step_out_of_retries_raises_a_step_error_that_tells_all(app: TaskFlow) -> None:
    """S5.4: name, message, step id and stack; the first time its cause as well, and the same in a replay."""
    seen: list[StepError] = []

    class CardDeclined(Exception):
        pass

    def charge() -> None:
        raise CardDeclined("no funds")

    @app.function(retries=0)
    async def work(ctx: Context[Step], step: Step) -> None:
        try:
            await step.run("charge", charge)
        except StepError as error:
            seen.append(error)
        await step.sleep("nap", "1h")

    async with Harness(app) as harness:
        run = await harness.start(work)
        await harness.advance(hours=1)
        assert await run.astatus() is RunStatus.COMPLETED
    first, replayed = seen
    for error in (first, replayed):
        assert (error.name, error.message, error.step_id) == ("CardDeclined", "no funds", "charge")
        assert "in charge" in error.stack
        assert "CardDeclined: no funds" in error.stack
    assert isinstance(first.__cause__, CardDeclined)


@pytest.mark.parametrize("kind", ["async", "blocking"])
async def test_the_handler_may_catch_it_and_compensate(app: TaskFlow, kind: str) -> None:
    """S5.4: what was done before is undone by steps, in the opposite order."""
    done: list[str] = []

    def fail() -> None:
        raise ValueError("no flight")

    @app.function(retries=0)
    async def book(ctx: Context[Step], step: Step) -> str:
        undo: list[str] = []
        try:
            for name in ("hotel", "car"):
                await step.run(f"book {name}", done.append, name)
                undo.insert(0, name)
            await step.run("book flight", fail)
        except StepError as error:
            for name in undo:
                await step.run(f"cancel {name}", done.append, f"-{name}")
            await step.sleep("settle", "1h")
            return f"gave up: {error.message}"
        return "booked"

    @app.function(retries=0)
    def blocking_book(ctx: Context[BlockingStep], step: BlockingStep) -> str:
        undo: list[str] = []
        try:
            for name in ("hotel", "car"):
                step.run(f"book {name}", done.append, name)
                undo.insert(0, name)
            step.run("book flight", fail)
        except StepError as error:
            for name in undo:
                step.run(f"cancel {name}", done.append, f"-{name}")
            step.sleep("settle", "1h")
            return f"gave up: {error.message}"
        return "booked"

    async with Harness(app) as harness:
        run = await harness.start(book if kind == "async" else blocking_book)
        await harness.advance(hours=1)
        assert await run.aresult("1s") == "gave up: no flight"
        assert done == ["hotel", "car", "-car", "-hotel"]


async def test_the_handler_may_raise_another_which_has_retries_of_its_own(app: TaskFlow) -> None:
    """S5.4, S5.1: the failed step is a memo like any, and is not executed again."""
    async with Harness(app) as harness:
        flaky = Flaky(harness, failures=99)
        attempts: list[int] = []

        @app.function(retries=Retries(1, initial="1s", jitter=False))
        async def work(ctx: Context[Step], step: Step) -> None:
            attempts.append(ctx.attempt)
            try:
                await step.run("flaky", flaky)
            except StepError as error:
                raise RuntimeError("mine") from error

        run = await harness.start(work)
        await harness.advance(minutes=1)
        with pytest.raises(RunFailed) as caught:
            await run.aresult("1s")
        assert (caught.value.name, len(flaky.calls_s)) == ("RuntimeError", 2)
        assert attempts[-1] == 1


async def test_a_step_error_that_is_not_caught_fails_the_run_at_once_with_the_steps_own_error(
    app: TaskFlow,
) -> None:
    """S5.4, S5.5: the code outside has no retries for it, since the step has used up its own."""
    async with Harness(app) as harness:
        flaky = Flaky(harness, failures=99)
        calls: list[int] = []

        @app.function(retries=Retries(1, initial="1s", jitter=False))
        async def work(ctx: Context[Step], step: Step) -> None:
            calls.append(ctx.attempt)
            await step.run("flaky", flaky)

        run = await harness.start(work)
        await harness.advance(seconds=1)
        with pytest.raises(RunFailed) as caught:
            await run.aresult("1s")
        assert (caught.value.name, caught.value.message) == ("ValueError", "failure 2")
        assert calls == [0, 0]


async def test_one_failed_branch_of_a_gather_is_caught_there(app: TaskFlow) -> None:
    """S5.4, S3.7"""

    def fail() -> None:
        raise ValueError("b")

    @app.function(retries=0)
    async def work(ctx: Context[Step], step: Step) -> list[str]:
        results = await asyncio.gather(
            step.run("a", lambda: "a"), step.run("b", fail), step.sleep("c", 1), return_exceptions=True
        )
        return [repr(result) for result in results]

    async with Harness(app) as harness:
        run = await harness.start(work)
        await harness.advance(seconds=1)
        assert await run.aresult("1s") == ["'a'", "StepError('b')", "None"]


# --- S5.5 ---


async def test_a_failed_run_stores_its_error_and_tells_of_it_once(app: TaskFlow) -> None:
    """S5.5: `taskflow/function.failed` carries function, run, error and event."""
    told: list[dict[str, Any]] = []

    @app.function(trigger="shop/paid", retries=0)
    async def work(ctx: Context[Step], step: Step) -> None:
        raise ValueError("broken")

    @app.function(trigger=FAILED)
    async def watch(ctx: Context[Step]) -> None:
        told.append(ctx.event.data)

    async with Harness(app) as harness:
        (event_id,) = await harness.send("shop/paid", {"order": 7}, user={"id": 3})
        run = await harness.run_of(work, event_id)
        await harness.advance(minutes=1)  # the reaper finds nothing left to publish
        view = await harness.view(run)
        assert view.status is RunStatus.FAILED
        assert view.error is not None
        assert (view.error.name, view.error.message) == ("ValueError", "broken")
        assert "in work" in view.error.stack
        (data,) = told
        assert (data["function_id"], data["run_id"]) == ("shop/work", run.id)
        assert data["error"] == view.error.to_json()
        assert (data["event"]["name"], data["event"]["data"], data["event"]["user"]) == (
            "shop/paid", {"order": 7}, {"id": 3},
        )  # fmt: skip


async def test_on_failure_is_a_run_of_its_own_with_steps_and_retries(app: TaskFlow) -> None:
    """S5.5"""
    async with Harness(app) as harness:
        flaky = Flaky(harness, failures=2)
        seen: list[Any] = []

        async def clean_up(ctx: Context[Step], step: Step) -> str:
            tries = await step.run("flaky", flaky)
            await step.sleep("nap", "1h")
            seen.append((ctx.event.data["error"]["message"], ctx.event.data["event"]["data"], tries))
            return "cleaned"

        @app.function(retries=Retries(2, initial="1s", jitter=False), on_failure=clean_up)
        async def work(ctx: Context[Step]) -> None:
            raise NonRetriableError("broken")

        @app.function(retries=0)
        async def other(ctx: Context[Step]) -> None:
            raise ValueError("none of its business")

        await harness.workers[0].register()
        await restart(harness)
        run = await harness.start(work, {"order": 7})
        await harness.start(other)
        await harness.advance(hours=2)
        assert seen == [("broken", {"order": 7}, 3)]
        (handled,) = [app.run(run_id) for run_id in await run_ids(harness, "shop/work-on-failure")]
        assert handled.id != run.id
        assert await handled.aresult("1s") == "cleaned"
        assert await run.astatus() is RunStatus.FAILED


async def run_ids(harness: Harness, function_id: str) -> list[Any]:
    return [run_id for run_id, _ in await harness.store.history.recent_runs(function_id, limit=100)]


async def restart(harness: Harness) -> None:
    """Have the worker read its app anew: functions were added since it started."""
    worker = harness.workers[0]
    await worker.stop(drain_timeout_s=1)
    fresh = type(worker)(worker.app, worker.options, child_id=worker.child_id, clock=harness.clock)
    await fresh.start()
    harness.workers[0] = fresh
    await harness.settled()


async def test_a_failing_on_failure_fails_its_own_run_and_calls_no_other(app: TaskFlow) -> None:
    """S5.5"""
    calls: list[str] = []

    async def clean_up(ctx: Context[Step]) -> None:
        calls.append(ctx.function_id)
        raise NonRetriableError("worse")

    @app.function(retries=0, on_failure=clean_up)
    async def work(ctx: Context[Step]) -> None:
        raise ValueError("broken")

    async with Harness(app) as harness:
        await harness.start(work)
        await harness.advance(minutes=1)
        (run_id,) = await run_ids(harness, "shop/work-on-failure")
        assert await app.run(run_id).astatus() is RunStatus.FAILED
    assert calls == ["shop/work-on-failure"]


@pytest.mark.parametrize("kind", ["async", "blocking"])
async def test_on_failure_may_be_of_either_kind(app: TaskFlow, kind: str) -> None:
    """S5.5, S2.4"""
    seen: list[str] = []

    async def clean_up(ctx: Context[Step]) -> None:
        seen.append(ctx.event.name)

    def blocking_clean_up(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        step.run("note", seen.append, ctx.event.name)

    @app.function(retries=0, on_failure=clean_up if kind == "async" else blocking_clean_up)
    def work(ctx: Context[BlockingStep]) -> None:
        raise ValueError("broken")

    async with Harness(app) as harness:
        await harness.start(work)
        await harness.settled()
    assert seen == [FAILED]


async def test_on_failure_runs_once_although_the_event_is_routed_again(app: TaskFlow) -> None:
    """S5.5, S9.1: finished once, told once, however often the message comes."""
    calls: list[str] = []

    async def clean_up(ctx: Context[Step]) -> None:
        calls.append(ctx.run_id)

    @app.function(retries=0, on_failure=clean_up)
    async def work(ctx: Context[Step]) -> None:
        raise ValueError("broken")

    async with Harness(app) as harness:
        await harness.start(work)
        uids = await harness.store.history.recent_events(limit=100)
        records = [await harness.store.history.event(uid) for uid in uids]
        (told,) = [record["event"] for record in records if record["name"] == FAILED.encode()]
        for _ in range(3):
            await app._link.async_publisher.publish_events([b"[" + told + b"," + told + b"]"])
            await harness.settled()
    assert len(calls) == 1


async def test_a_cancelled_run_calls_no_on_failure(app: TaskFlow) -> None:
    """S5.5, S6.2"""
    calls: list[str] = []

    async def clean_up(ctx: Context[Step]) -> None:
        calls.append(ctx.run_id)

    @app.function(on_failure=clean_up)
    async def work(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1h")

    async with Harness(app) as harness:
        run = await harness.start(work)
        await run.acancel()
        await harness.settled()
    assert not calls


# --- S5.6 ---


@pytest.mark.parametrize("where", ["step", "handler"])
@pytest.mark.parametrize("kind", ["async", "blocking"])
async def test_a_run_that_waits_for_a_retry_holds_no_slot(app: TaskFlow, where: str, kind: str) -> None:
    """S5.6"""

    def fail() -> None:
        raise ValueError("not yet")

    @app.function(retries=STEADY)
    async def work(ctx: Context[Step], step: Step) -> None:
        await step.run("fail", fail) if where == "step" else fail()

    @app.function(retries=STEADY)
    def blocking_work(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        step.run("fail", fail) if where == "step" else fail()

    async with Harness(app, concurrency=1) as harness:
        runs = [await harness.start(work if kind == "async" else blocking_work) for _ in range(3)]
        assert harness.slots_in_use == 0
        assert {await run.astatus() for run in runs} == {RunStatus.WAITING}
        await harness.advance(seconds=10)
        assert harness.slots_in_use == 0
        for run in runs:
            assert await run.acancel()
