"""S5: what happens when a step, or the code between the steps, fails."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import NonRetriableError, RetryAfterError, RunFailed, StepError
from taskflow.handle import Run, RunStatus
from taskflow.retries import Retries
from taskflow.step import BlockingStep, Step
from taskflow.testing import Harness

STEADY = Retries(4, initial="10s", multiplier=2, jitter=False)  # 10, 20, 40, 80 s
FAILED = "taskflow/function.failed"


class Flaky:
    """A step's function that fails `failures` times; it notes the time (s) of each call."""

    def __init__(self, harness: Harness, failures: int, error: type[Exception] = ValueError) -> None:
        self.clock = harness.clock
        self.start_ms = self.clock.now_ms()
        self.failures = failures
        self.error = error
        self.calls_s: list[float] = []

    async def __call__(self, *args: Any) -> int:
        return self.call()

    def call(self) -> int:
        self.calls_s.append((self.clock.now_ms() - self.start_ms) / 1000)
        if len(self.calls_s) <= self.failures:
            raise self.error(f"failure {len(self.calls_s)}")
        return len(self.calls_s)


def seconds(harness: Harness) -> int:
    return harness.clock.now_ms() // 1000


# --- S5.1 ---


async def test_a_step_is_tried_four_times_more_by_default(app: TaskFlow) -> None:
    """S5.1"""
    async with Harness(app) as harness:
        flaky = Flaky(harness, failures=99)

        @app.function()
        async def work(ctx: Context[Step], step: Step) -> int:
            return await step.run("flaky", flaky.call)

        run = await harness.start(work)
        await harness.advance(hours=10)
        with pytest.raises(RunFailed, match="ValueError: failure 5"):
            await run.aresult("1s")
        assert len(flaky.calls_s) == 5


@pytest.mark.parametrize("retries", [0, 1, 20])
async def test_retries_are_the_tries_after_the_first(app: TaskFlow, retries: int) -> None:
    """S5.1: from 0 to 20."""
    async with Harness(app) as harness:
        flaky = Flaky(harness, failures=99)

        @app.function(retries=Retries(retries, initial="1s", maximum="1s", jitter=False))
        async def work(ctx: Context[Step], step: Step) -> int:
            return await step.run("flaky", flaky.call)

        run = await harness.start(work)
        await harness.advance(minutes=1)
        with pytest.raises(RunFailed):
            await run.aresult("1s")
        assert flaky.calls_s == list(range(retries + 1))


async def test_each_step_has_its_own_counter(app: TaskFlow) -> None:
    """S5.1: three steps, each of which needs all of its retries."""
    async with Harness(app) as harness:
        flaky = [Flaky(harness, failures=2) for _ in range(3)]

        @app.function(retries=Retries(2, initial="1s", jitter=False))
        async def work(ctx: Context[Step], step: Step) -> list[int]:
            return [await step.run(f"flaky {n}", each) for n, each in enumerate(flaky)]

        run = await harness.start(work)
        await harness.advance(minutes=1)
        assert await run.aresult("1s") == [3, 3, 3]


async def test_parallel_steps_are_retried_each_by_itself(app: TaskFlow) -> None:
    """S5.1, S4.4: the second retry of one does not wait for the others."""
    async with Harness(app) as harness:
        flaky = [Flaky(harness, failures=n) for n in range(4)]

        @app.function(retries=STEADY)
        async def work(ctx: Context[Step], step: Step) -> list[int]:
            return list(await asyncio.gather(*[step.run(f"flaky {n}", each) for n, each in enumerate(flaky)]))

        run = await harness.start(work)
        await harness.advance(minutes=5)
        assert await run.aresult("1s") == [1, 2, 3, 4]
        assert [each.calls_s for each in flaky] == [[0], [0, 10], [0, 10, 30], [0, 10, 30, 70]]


async def test_code_outside_steps_shares_one_counter(app: TaskFlow) -> None:
    """S5.1: `ctx.attempt` says which try it is."""
    attempts: list[int] = []

    @app.function(retries=Retries(3, initial="1s", jitter=False))
    async def work(ctx: Context[Step]) -> None:
        attempts.append(ctx.attempt)
        raise ValueError(f"try {ctx.attempt}")

    async with Harness(app) as harness:
        run = await harness.start(work)
        await harness.advance(minutes=1)
        with pytest.raises(RunFailed, match="ValueError: try 3"):
            await run.aresult("1s")
    assert attempts == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["run", "sleep"])
async def test_each_step_that_completes_resets_the_counter_of_the_code_outside(
    app: TaskFlow, kind: str
) -> None:
    """S5.1: six failures between three steps, with two retries."""
    attempts: list[int] = []
    failures = {"a": 2, "b": 2, "c": 2}

    @app.function(retries=Retries(2, initial="1s", jitter=False))
    async def work(ctx: Context[Step], step: Step) -> str:
        attempts.append(ctx.attempt)
        for name in "abc":
            if failures[name]:
                failures[name] -= 1
                raise ValueError(name)
            await (step.run(name, lambda: None) if kind == "run" else step.sleep(name, 1))
        return "done"

    async with Harness(app) as harness:
        run = await harness.start(work)
        await harness.advance(minutes=1)
        assert await run.aresult("1s") == "done"
    if kind == "run":
        assert attempts == [0, 1, 2, 1, 2, 1, 2]


async def test_a_step_that_is_retried_keeps_the_counter_of_the_code_outside(app: TaskFlow) -> None:
    """S5.1: only a step that completes resets it, not one that fails and is to be tried again."""
    attempts: list[int] = []

    async with Harness(app) as harness:
        flaky = Flaky(harness, failures=2)

        @app.function(retries=Retries(3, initial="1s", jitter=False))
        async def work(ctx: Context[Step], step: Step) -> None:
            attempts.append(ctx.attempt)
            if ctx.attempt == 0:
                raise ValueError("first")
            await step.run("flaky", flaky)
            raise ValueError("after")

        run = await harness.start(work)
        await harness.advance(minutes=1)
        with pytest.raises(RunFailed, match="ValueError: after"):
            await run.aresult("1s")
    assert attempts == [0, 1, 1, 1, 1, 2, 3]


# --- S5.2 ---


async def test_the_delay_doubles_from_10_s_up_to_an_hour(app: TaskFlow) -> None:
    """S5.2: without jitter, each delay is what the default allows at most."""
    async with Harness(app) as harness:
        flaky = Flaky(harness, failures=11)

        @app.function(retries=Retries(20, jitter=False))
        async def work(ctx: Context[Step], step: Step) -> int:
            return await step.run("flaky", flaky)

        run = await harness.start(work)
        await harness.advance(hours=12)
        assert await run.aresult("1s") == 12
        delays = [later - earlier for earlier, later in zip(flaky.calls_s, flaky.calls_s[1:], strict=False)]
        assert delays == [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]


async def test_jitter_draws_the_delay_between_nothing_and_that(
    app: TaskFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S5.2: full jitter, drawn anew for each step and try."""
    drawn = iter([0.0, 0.5, 0.999, 0.25])
    monkeypatch.setattr(random, "random", lambda: next(drawn))
    async with Harness(app) as harness:
        flaky = Flaky(harness, failures=4)

        @app.function()
        async def work(ctx: Context[Step], step: Step) -> int:
            return await step.run("flaky", flaky)

        run = await harness.start(work)
        await harness.advance(hours=1)
        assert await run.aresult("1s") == 5
        assert flaky.calls_s == [0, 0, 10, pytest.approx(49.96), pytest.approx(69.96)]


async def test_the_policy_is_the_users(app: TaskFlow) -> None:
    """S5.2: initial, maximum, multiplier; for the code between the steps too."""
    async with Harness(app) as harness:
        times_s: list[float] = []
        start_s = harness.clock.now_ms() / 1000

        @app.function(retries=Retries(attempts=4, initial="1s", maximum="20s", multiplier=3, jitter=False))
        async def work(ctx: Context[Step]) -> None:
            times_s.append(harness.clock.now_ms() / 1000 - start_s)
            raise ValueError

        await harness.start(work)
        await harness.advance(minutes=5)
        assert times_s == [0, 1, 4, 13, 33]


# --- S5.3 ---


async def test_a_non_retriable_error_ends_the_retries_of_a_step(app: TaskFlow) -> None:
    """S5.3"""
    async with Harness(app) as harness:
        flaky = Flaky(harness, failures=9, error=NonRetriableError)

        @app.function()
        async def work(ctx: Context[Step], step: Step) -> str:
            try:
                await step.run("flaky", flaky)
            except StepError as error:
                return f"{error.name}: {error.message}"
            return "?"

        run = await harness.start(work)
        assert await run.aresult("1s") == "NonRetriableError: failure 1"
        assert len(flaky.calls_s) == 1


async def test_a_non_retriable_error_outside_steps_fails_the_run_at_once(app: TaskFlow) -> None:
    """S5.3: a subclass of the user's as well."""

    class NoSuchOrder(NonRetriableError):
        pass

    calls: list[int] = []

    @app.function()
    async def work(ctx: Context[Step]) -> None:
        calls.append(1)
        raise NoSuchOrder("order 7")

    async with Harness(app) as harness:
        run = await harness.start(work)
        with pytest.raises(RunFailed, match="NoSuchOrder: order 7") as caught:
            await run.aresult("1s")
        assert caught.value.name == "NoSuchOrder"
        assert calls == [1]


@pytest.mark.parametrize("kind", ["duration", "seconds", "timedelta", "datetime"])
@pytest.mark.parametrize("where", ["step", "handler"])
async def test_retry_after_error_sets_the_next_try(app: TaskFlow, kind: str, where: str) -> None:
    """S5.3: a delay in any form, or a moment."""
    async with Harness(app) as harness:
        start_ms = harness.clock.now_ms()
        times_s: list[float] = []
        moment = datetime.fromtimestamp(start_ms / 1000, UTC) + timedelta(seconds=90)
        delays: dict[str, Any] = {
            "duration": "1m30s", "seconds": 90, "timedelta": timedelta(seconds=90), "datetime": moment,
        }  # fmt: skip

        async def call() -> str:
            times_s.append((harness.clock.now_ms() - start_ms) / 1000)
            if len(times_s) == 1:
                raise RetryAfterError("rate limited", delays[kind])
            return "ok"

        @app.function()
        async def work(ctx: Context[Step], step: Step) -> str:
            return await step.run("call", call) if where == "step" else await call()

        run = await harness.start(work)
        await harness.advance(minutes=5)
        assert await run.aresult("1s") == "ok"
        assert times_s == [0, 90]


async def test_retry_after_error_counts_as_a_try(app: TaskFlow) -> None:
    """S5.3, S5.1"""
    async with Harness(app) as harness:
        calls: list[int] = []

        async def call() -> None:
            calls.append(1)
            raise RetryAfterError("not yet", 1)

        @app.function(retries=3)
        async def work(ctx: Context[Step], step: Step) -> None:
            await step.run("call", call)

        run = await harness.start(work)
        await harness.advance(hours=1)
        with pytest.raises(RunFailed, match="RetryAfterError: not yet"):
            await run.aresult("1s")
        assert len(calls) == 4


async def test_a_moment_in_the_past_means_at_once(app: TaskFlow) -> None:
    """S5.3"""
    async with Harness(app) as harness:
        past = datetime(2001, 1, 1, tzinfo=UTC)
        calls: list[int] = []

        async def call() -> int:
            calls.append(1)
            if len(calls) == 1:
                raise RetryAfterError("now", past)
            return len(calls)

        @app.function()
        async def work(ctx: Context[Step], step: Step) -> int:
            return await step.run("call", call)

        run = await harness.start(work)
        assert await run.aresult("1s") == 2


@pytest.mark.parametrize(
    "error", [NonRetriableError("no"), RetryAfterError("later", 1)], ids=["non-retriable", "after"]
)
async def test_the_cause_is_kept_in_what_is_stored(app: TaskFlow, error: Exception) -> None:
    """S5.3: the stack that is stored tells of the cause as well."""

    async def call() -> None:
        try:
            int("x")
        except ValueError as cause:
            raise error from cause

    @app.function(retries=0)
    async def work(ctx: Context[Step], step: Step) -> None:
        await step.run("call", call)

    async with Harness(app) as harness:
        run = await harness.start(work)
        with pytest.raises(RunFailed) as caught:
            await run.aresult("1s")
        assert "invalid literal for int() with base 10: 'x'" in caught.value.stack
        assert "direct cause" in caught.value.stack


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
        assert (view.error["name"], view.error["message"]) == ("ValueError", "broken")
        assert "in work" in view.error["stack"]
        (data,) = told
        assert (data["function_id"], data["run_id"]) == ("shop/work", run.id)
        assert data["error"] == view.error
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
        (handled,) = [Run(run_id, app) for run_id in await run_ids(harness, "shop/work-on-failure")]
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
        assert await Run(run_id, app).astatus() is RunStatus.FAILED
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
        uids = await harness.store.client.call("ZRANGE", harness.store.keys.events, 0, -1)
        records = [await harness.store.history.event(uid.decode()) for uid in uids]
        (told,) = [record["event"] for record in records if record["name"] == FAILED.encode()]
        for _ in range(3):
            await app.async_publisher.publish_events([b"[" + told + b"," + told + b"]"])
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
