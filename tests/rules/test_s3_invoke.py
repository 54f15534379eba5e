"""S3.6: step.invoke."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import (
    NonRetriableError,
    RunFailed,
    StepError,
)
from taskflow.event import ReceivedEvent
from taskflow.function import Function
from taskflow.retries import Retries
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.conftest import MakeApp
from tests.rules.givens import HOUR_MS, both_kinds

pytestmark = pytest.mark.usefixtures("no_bugs")


@both_kinds
async def test_invoke_runs_a_function_and_returns_its_output(app: TaskFlow, is_async: bool) -> None:
    """S3.6"""
    seen: list[ReceivedEvent] = []

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> Any:
        seen.append(ctx.event)
        await step.sleep("nap", "1h")
        return {"got": ctx.event.data}

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        return [
            await step.invoke("by function", function=child, data={"n": 1}, user={"u": 2}),
            await step.invoke("by id", function_id="shop/child"),
        ]

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        return [
            step.invoke("by function", function=child, data={"n": 1}, user={"u": 2}),
            step.invoke("by id", function_id="shop/child"),
        ]

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        assert harness.slots_in_use == 0
        assert await run.astatus() == RunStatus.WAITING
        await harness.advance(hours=2)
        assert await run.aresult("1s") == [{"got": {"n": 1}}, {"got": {}}]
        assert len(await harness.runs(child)) == 2
    assert {event.name for event in seen} == {"taskflow/function.invoked"}
    assert seen[0].user == {"u": 2}
    assert seen[-1].user is None


@pytest.mark.parametrize("value", [None, 0, "", [], {"a": [1, None]}, "x" * 100_000], ids=repr)
async def test_invoke_returns_any_json(app: TaskFlow, value: Any) -> None:
    """S3.6, S2.6"""

    @app.function()
    async def child(ctx: Context[Step]) -> Any:
        return value

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> Any:
        return [await step.invoke("child", function=child)]

    async with Harness(app) as harness:
        run = await harness.start(parent)
        assert await run.aresult("1s") == [value]


async def test_invoke_reaches_functions_of_other_apps(make_app: MakeApp) -> None:
    """S3.6"""
    shop, risk = make_app("shop"), make_app("risk")

    @risk.function(queue="slow")
    def score(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        return step.run("score", lambda: 10 * int(ctx.event.data["n"]))

    @shop.function()
    async def parent(ctx: Context[Step], step: Step) -> Any:
        return await asyncio.gather(
            *[step.invoke("score", function_id="risk/score", data={"n": n}, timeout="1h") for n in range(5)]
        )

    async with Harness(shop, risk, workers=2) as harness:
        run = await harness.start(parent)
        assert await run.aresult("1s") == [0, 10, 20, 30, 40]


@both_kinds
async def test_a_failure_of_the_child_raises_a_non_retriable_step_error(
    app: TaskFlow, is_async: bool
) -> None:
    """S3.6, S5.4"""
    calls: list[str] = []

    @app.function(retries=Retries(2, initial="1m", jitter=False))
    async def child(ctx: Context[Step]) -> None:
        calls.append("child")
        raise LookupError("no such order")

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        calls.append("parent")
        await step.invoke("child", function=child)

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        calls.append("parent")
        step.invoke("child", function=child)

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        assert await run.astatus() == RunStatus.WAITING
        await harness.advance(minutes=10)
        with pytest.raises(RunFailed, match="LookupError: no such order"):
            await run.aresult("1s")
        await harness.advance(days=1)
    assert calls == ["parent", "child", "child", "child", "parent"]  # one pass of the parent, and its replay


async def test_the_error_of_an_invoke_can_be_caught_and_tells_of_the_child(app: TaskFlow) -> None:
    """S3.6, S5.4"""
    caught: list[StepError] = []

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> None:
        def charge() -> None:
            raise NonRetriableError("card declined")

        await step.run("charge", charge)

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> str:
        try:
            await step.invoke("pay", function=child)
        except StepError as error:
            caught.append(error)
        return "went on"

    async with Harness(app) as harness:
        run = await harness.start(parent)
        assert await run.aresult("1s") == "went on"
    error = caught[-1]
    assert isinstance(error, NonRetriableError)
    assert (error.name, error.message, error.step_id) == ("NonRetriableError", "card declined", "pay")
    assert "card declined" in error.stack


async def test_a_missing_function_raises_a_step_error_at_once(app: TaskFlow) -> None:
    """S3.6"""
    calls: list[int] = []

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> None:
        calls.append(1)
        await step.invoke("child", function_id="risk/nobody", timeout="1h")

    async with Harness(app) as harness:
        run = await harness.start(parent)
        with pytest.raises(
            RunFailed, match="FunctionNotFound: no worker has registered the function 'risk/nobody'"
        ):
            await run.aresult("1s")
    assert len(calls) == 1


async def test_a_missing_function_stays_missing_in_the_replay(make_app: MakeApp) -> None:
    """S3.6, S4.1"""
    shop, risk = make_app("shop"), make_app("risk")
    outcomes: list[str] = []

    @shop.function()
    async def parent(ctx: Context[Step], step: Step) -> None:
        try:
            await step.invoke("child", function_id="risk/late")
            outcomes.append("found")
        except StepError as error:
            outcomes.append(error.name)
        await step.sleep("nap", "1h")

    @risk.function()
    async def late(ctx: Context[Step]) -> None: ...

    async with Harness(shop) as harness:
        run = await harness.start(parent)
        async with Harness(risk, clock=harness.clock):
            await harness.advance(hours=1)
        assert await run.astatus() == RunStatus.COMPLETED
    assert outcomes == ["FunctionNotFound"] * 2


@both_kinds
async def test_the_timeout_of_an_invoke_raises_and_the_child_goes_on(app: TaskFlow, is_async: bool) -> None:
    """S3.6, S6.2"""

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> str:
        await step.sleep("nap", "3h")
        return "late"

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        try:
            return await step.invoke("child", function=child, timeout="1h")
        except StepError as error:
            await step.sleep("wait", "1d")
            return [error.name, error.step_id]

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        try:
            return step.invoke("child", function=child, timeout="1h")
        except StepError as error:
            step.sleep("wait", "1d")
            return [error.name, error.step_id]

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        await harness.advance(ms=HOUR_MS - 1)
        assert (await harness.view(run)).steps["child"].state == "wait"
        await harness.advance(ms=1)
        assert (await harness.view(run)).steps["child"].state == "failed"
        await harness.advance(hours=3)
        (child_run,) = await harness.runs(child)
        assert await child_run.aresult("1s") == "late"
        await harness.advance(days=1)
        assert await run.aresult("1s") == ["InvokeTimeout", "child"]


async def test_a_child_in_time_leaves_no_timeout_behind(app: TaskFlow) -> None:
    """S3.6"""

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> str:
        await step.sleep("nap", "59m")
        return "in time"

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> Any:
        return await step.invoke("child", function=child, timeout="1h")

    async with Harness(app) as harness:
        run = await harness.start(parent)
        await harness.advance(minutes=59)
        assert await run.aresult("1s") == "in time"
        assert await harness.next_due_ms() is None


async def test_a_cancelled_child_raises_a_step_error(app: TaskFlow) -> None:
    """S3.6"""

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "3h")

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> Any:
        await step.invoke("child", function=child)

    async with Harness(app) as harness:
        run = await harness.start(parent)
        (child_run,) = await harness.runs(child)
        await child_run.acancel("not needed")
        await harness.settled()
        with pytest.raises(RunFailed, match="not needed"):
            await run.aresult("1s")


async def test_invoke_takes_a_function_or_an_id(app: TaskFlow) -> None:
    """S3.6"""

    @app.function(retries=0)
    async def parent(ctx: Context[Step], step: Step) -> None:
        if ctx.event.data["both"]:
            await step.invoke("child", function=parent, function_id="shop/parent")  # type: ignore[call-overload]
        await step.invoke("child")  # type: ignore[call-overload]

    async with Harness(app) as harness:
        for both in (True, False):
            run = await harness.start(parent, {"both": both})
            with pytest.raises(
                RunFailed,
                match="TypeError: step.invoke takes either function=... .* or function_id='app/function'",
            ):
                await run.aresult("1s")


async def test_functions_may_invoke_themselves(app: TaskFlow) -> None:
    """S3.6"""

    @app.function()
    async def factorial(ctx: Context[Step], step: Step) -> int:
        n = int(ctx.event.data["n"])
        return n * int(await step.invoke("next", function_id="shop/factorial", data={"n": n - 1})) if n else 1

    async with Harness(app, concurrency=2) as harness:
        run = await harness.start(factorial, {"n": 10})
        assert await run.aresult("1s") == 3_628_800
