"""S3.8, S3.9: repeated ids, and steps inside steps."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import (
    RunFailed,
)
from taskflow.event import Event
from taskflow.function import Function
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.rules.givens import both_kinds

pytestmark = pytest.mark.usefixtures("no_bugs")


@both_kinds
async def test_loops_need_no_unique_ids(app: TaskFlow, is_async: bool) -> None:
    """S3.8"""
    calls: list[int] = []
    passes: list[list[int]] = []

    def work(n: int) -> int:
        calls.append(n)
        return n * n

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> list[int]:
        got: list[int] = []
        for n in range(4):
            got.append(await step.run("work", work, n))
            await step.sleep("pause", "1m")
        passes.append(got)
        return got

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> list[int]:
        got: list[int] = []
        for n in range(4):
            got.append(step.run("work", work, n))
            step.sleep("pause", "1m")
        passes.append(got)
        return got

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        await harness.advance(minutes=4)
        assert await run.aresult("1s") == [0, 1, 4, 9]
        keys = list((await harness.view(run)).steps)
    assert keys == ["work", "pause", "work#1", "pause#1", "work#2", "pause#2", "work#3", "pause#3"]
    assert calls == [0, 1, 2, 3]
    assert passes == [[0, 1, 4, 9]]


async def test_a_repeated_id_is_numbered_whatever_the_tool_and_whatever_other_ids_look_like(
    app: TaskFlow,
) -> None:
    """S3.8"""
    passes: list[list[Any]] = []

    @app.function()
    async def child(ctx: Context[Step]) -> str:
        return "child"

    @app.function()
    async def mixed(ctx: Context[Step], step: Step) -> None:
        got: list[Any] = [await step.run("x#1", lambda: "named so"), await step.run("x", lambda: "first")]
        await step.sleep("x", "1h")
        got.append(await step.run("x", lambda: "third"))
        got.append(await step.invoke("x", function=child))
        got.append(await step.run("x#1", lambda: "named so again"))
        got.append(await step.wait_for_event("x", "never", timeout="1h"))
        got.append(len(await step.send_event("x", Event("a"))))
        passes.append(got)

    async with Harness(app) as harness:
        run = await harness.start(mixed)
        await harness.advance(hours=3)
        assert await run.astatus() == RunStatus.COMPLETED
        assert len((await harness.view(run)).steps) == 8
    assert passes[-1] == ["named so", "first", "third", "child", "named so again", None, 1]


@both_kinds
@pytest.mark.parametrize("inner", ["run", "sleep", "wait_for_event", "send_event", "invoke", "parallel"])
async def test_a_step_inside_a_step_raises_and_is_not_retried(
    app: TaskFlow, is_async: bool, inner: str
) -> None:
    """S3.9"""
    calls: list[str] = []
    arguments: dict[str, Any] = {
        "run": ("inner", lambda: calls.append("inner")),
        "sleep": ("inner", "1h"),
        "wait_for_event": ("inner", "paid", "1h"),
        "send_event": ("inner", Event("paid")),
        "invoke": ("inner",),
    }

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        async def outer() -> None:
            calls.append("outer")
            if inner == "parallel":
                await step.parallel((lambda: step.run("inner", lambda: calls.append("inner")),))
            elif inner == "invoke":
                await step.invoke("inner", function_id="shop/async")
            else:
                await getattr(step, inner)(*arguments[inner])

        await step.run("outer", outer)

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        def outer() -> None:
            calls.append("outer")
            if inner == "parallel":
                step.parallel((lambda: step.run("inner", lambda: calls.append("inner")),))
            elif inner == "invoke":
                step.invoke("inner", function_id="shop/def")
            else:
                getattr(step, inner)(*arguments[inner])

        step.run("outer", outer)

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        with pytest.raises(
            RunFailed,
            match="NestedStepError: step 'inner' was called inside step 'outer'. .* use step.invoke",
        ):
            await run.aresult("1s")
        assert list((await harness.view(run)).steps) == ["outer"]
    assert calls == ["outer"]


@both_kinds
async def test_a_step_inside_a_step_that_swallows_the_error_fails_all_the_same(
    app: TaskFlow, is_async: bool
) -> None:
    """S3.9: else the outer step would be stored as done, without what the inner one was to do."""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        async def outer() -> None:
            with contextlib.suppress(Exception):
                await step.run("inner", len, "x")

        await step.run("outer", outer)

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        def outer() -> None:
            with contextlib.suppress(Exception):
                step.run("inner", len, "x")

        step.run("outer", outer)

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        with pytest.raises(RunFailed, match="NestedStepError: step 'inner' was called inside step 'outer'"):
            await run.aresult("1s")


async def test_steps_next_to_a_step_are_not_inside_it(app: TaskFlow) -> None:
    """S3.9"""
    both_inside = asyncio.Barrier(2)

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> list[str]:
        async def branch(name: str) -> str:
            await step.run(name, both_inside.wait)
            return await step.run(f"{name} 2", lambda: name)

        return list(await asyncio.gather(branch("a"), branch("b")))

    async with Harness(app) as harness:
        run = await harness.start(handler)
        assert await run.aresult("1s") == ["a", "b"]
