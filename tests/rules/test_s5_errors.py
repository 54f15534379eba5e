"""S5.1 to S5.3: how often and when a step, or the code between the steps, is tried again."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.engine import parking
from taskflow.errors import NonRetriableError, RetryAfterError, RunFailed, StepError
from taskflow.retries import Retries
from taskflow.step import Step
from taskflow.testing import Harness
from taskflow.timeouts import Timeouts
from tests.rules.flaky import Flaky
from tests.rules.givens import both_kinds
from tests.rules.passing import all_final, pass_time
from tests.waiting import until

STEADY = Retries(4, initial="10s", multiplier=2, jitter=False)  # 10, 20, 40, 80 s
FAILED = "taskflow/function.failed"


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


async def test_news_of_another_operation_does_not_bring_a_retry_forward(
    app: TaskFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S5.1: a step that has just failed again is not stored yet, while the store still knows that its last retry was due."""
    monkeypatch.setattr(parking, "STORE_DELAY_S", 0.05)
    async with Harness(app) as harness:
        flaky = Flaky(harness, failures=2)
        over = asyncio.Event()

        @app.function(retries=Retries(5, initial="10s", multiplier=1, jitter=False))
        async def work(ctx: Context[Step], step: Step) -> int:
            async def hear_of_something() -> None:
                (execution,) = harness.workers[0].executor.executions.values()
                await until(
                    lambda: len(flaky.calls_s) == 2 and "flaky" in execution.journal.unstored,
                    description="the second failure, not stored yet",
                )
                execution.look()
                await over.wait()

            return (await asyncio.gather(step.run("flaky", flaky.call), hear_of_something()))[0]

        run = await harness.start(work)
        await harness.advance(seconds=10)
        assert flaky.calls_s == [0, 10]
        await harness.advance(seconds=10)
        assert flaky.calls_s == [0, 10, 20]
        over.set()
        assert await run.aresult("1s") == 3
        assert (await harness.view(run)).steps["flaky"].state == "done"


async def test_a_failed_attempt_counts_although_the_code_between_the_steps_fails_right_after_it(
    app: TaskFlow,
) -> None:
    """The failed attempt is stored with others after a pause, in which the whole run may be set aside."""
    calls: list[int] = []

    @app.function(retries=Retries(attempts=1, initial="1s"))
    async def function(ctx: Context[Step], step: Step) -> str:
        has_failed = asyncio.Event()

        async def fails() -> None:
            calls.append(ctx.attempt)
            has_failed.set()
            raise ValueError("the step")

        async def follows() -> None:
            await has_failed.wait()
            raise ValueError("between the steps")

        work = [step.run("fails", fails)]
        if ctx.attempt == 0:
            work.append(follows())
        await asyncio.gather(*work)
        return "not reached"

    async with Harness(app) as harness:
        run = await function.ainvoke()
        await harness.advance(minutes=1)
        with pytest.raises(RunFailed, match="the step"):
            await run.aresult()
    assert calls == [0, 1]


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


@both_kinds
async def test_a_function_gives_up_on_the_exceptions_that_it_names(app: TaskFlow, is_async: bool) -> None:
    """S5.3: in a step and in the code between the steps; what only the code knows is not asked of the store."""
    tried: list[str] = []

    def charge(kind: str) -> None:
        tried.append(kind)
        raise {"bug": KeyError, "away": ConnectionError}[kind](kind)

    @app.function(id="async", retries=Retries(2, initial="1s"), give_up_on=KeyError)
    async def in_async(ctx: Context[Step], step: Step) -> None:
        await step.run("charge", charge, ctx.event.data["kind"])

    @app.function(id="def", retries=Retries(2, initial="1s"), give_up_on=KeyError)
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        step.run("charge", charge, ctx.event.data["kind"])

    @app.function(retries=Retries(2, initial="1s"), retry_on=(ConnectionError,))
    async def body(ctx: Context[Step]) -> None:
        charge(ctx.event.data["kind"])

    async with Harness(app) as harness:
        for function in (in_async if is_async else in_def, body):
            for kind, count in (("bug", 1), ("away", 3)):
                run = await function.ainvoke({"kind": kind})
                await pass_time(harness, lambda run=run: all_final([run]), description="the end of the run")  # type: ignore[misc]
                assert tried == [kind] * count
                tried.clear()


@pytest.mark.parametrize(("error", "count"), [(TimeoutError, 1), (KeyError, 3)])
async def test_a_step_that_took_too_long_counts_as_a_timeout_error(
    app: TaskFlow, error: type[Exception], count: int
) -> None:
    """S5.3, S6.3"""
    tried: list[int] = []

    async def rest() -> None:
        tried.append(1)
        await asyncio.sleep(10)

    @app.function(retries=Retries(2, initial="1s"), give_up_on=error, timeouts=Timeouts(step="10ms"))
    async def work(ctx: Context[Step], step: Step) -> None:
        await step.run("rest", rest)

    async with Harness(app) as harness:
        with pytest.raises(RunFailed) as caught:
            await (await harness.run(work)).aresult()
        assert caught.value.name == "StepTimeout"
    assert len(tried) == count


@both_kinds
async def test_a_step_may_have_retries_of_its_own(app: TaskFlow, is_async: bool) -> None:
    """S3.1, S5.1, S5.3: the other steps, and what is left out, are as the function says."""
    tried: Counter[str] = Counter()

    def fail(name: str, error: type[Exception] = ConnectionError) -> None:
        tried[name] += 1
        raise error(name)

    @app.function(id="async", retries=Retries(3, initial="1s"), give_up_on=KeyError)
    async def in_async(ctx: Context[Step], step: Step) -> None:
        calls: list[Callable[[], Awaitable[None]]] = [
            lambda: step.run("plain", fail, "plain"),
            lambda: step.with_options(retries=1).run("few", fail, "few"),
            lambda: step.with_options(retries=1).run("few, a bug", fail, "few, a bug", KeyError),
            lambda: step.with_options(give_up_on=ConnectionError).run("none", fail, "none"),
            lambda: step.with_options(retry_on=OSError).run("only", fail, "only", ValueError),
        ]
        for call in calls:
            with contextlib.suppress(StepError):
                await call()

    @app.function(id="def", retries=Retries(3, initial="1s"), give_up_on=KeyError)
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        calls: list[Callable[[], None]] = [
            lambda: step.run("plain", fail, "plain"),
            lambda: step.with_options(retries=1).run("few", fail, "few"),
            lambda: step.with_options(retries=1).run("few, a bug", fail, "few, a bug", KeyError),
            lambda: step.with_options(give_up_on=ConnectionError).run("none", fail, "none"),
            lambda: step.with_options(retry_on=OSError).run("only", fail, "only", ValueError),
        ]
        for call in calls:
            with contextlib.suppress(StepError):
                call()

    async with Harness(app) as harness:
        run = await (in_async if is_async else in_def).ainvoke()
        await pass_time(harness, lambda: all_final([run]), description="the end of the run")
        await run.aresult("1s")
    assert tried == {"plain": 4, "few": 2, "few, a bug": 1, "none": 1, "only": 1}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"retries": -1}, "retries must be an int from 0 to 20, got -1"),
        ({"retry_on": "KeyError"}, "retry_on must be a class of exceptions or a tuple of them"),
        ({"timeout": 0}, "timeout must be more than 0"),
        ({"record_input": "yes"}, "record_input must be True or False, got 'yes'"),
    ],
)
async def test_an_option_of_a_step_that_can_not_be_fails_the_run_at_once(
    app: TaskFlow, options: Any, problem: str
) -> None:
    """S3.1"""

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> None:
        await step.with_options(**options).run("work", len, "x")

    async with Harness(app):
        run = await work.ainvoke()
        with pytest.raises(RunFailed, match=f"ConfigError: {problem}"):
            await run.aresult("1s")
