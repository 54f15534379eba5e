"""S3.1: step.run."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import (
    RunFailed,
)
from taskflow.function import Function
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.rules.givens import both_kinds

pytestmark = pytest.mark.usefixtures("no_bugs")


@both_kinds
async def test_run_calls_the_function_with_its_arguments_and_gives_its_result(
    app: TaskFlow, is_async: bool
) -> None:
    """S3.1: sync and async functions, partials, methods and objects, in both kinds of handlers."""

    def plain(a: int, b: int = 0) -> list[int]:
        return [a, b]

    async def coroutine(a: int, b: int = 0) -> list[int]:
        await asyncio.sleep(0)
        return [a, b]

    class Adder:
        async def __call__(self, a: int, b: int = 0) -> list[int]:
            return [a, b]

        def method(self, a: int, b: int = 0) -> list[int]:
            return [a, b]

    calls: list[Any] = [
        plain,
        coroutine,
        partial(plain),
        partial(coroutine),
        Adder(),
        Adder().method,
        lambda a, b: coroutine(a, b),
    ]

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        return [await step.run(f"{n}", fn, n, b=7) for n, fn in enumerate(calls)]

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        return [step.run(f"{n}", fn, n, b=7) for n, fn in enumerate(calls)]

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        assert await run.aresult("1s") == [[n, 7] for n in range(len(calls))]


async def test_a_steps_function_may_have_parameters_called_id_and_fn(app: TaskFlow) -> None:
    """S3.1: all keywords are the function's."""

    def look_up(*, id: int, fn: str) -> list[Any]:
        return [id, fn]

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        return await step.run("look up", look_up, id=7, fn="x")

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        return step.run("look up", look_up, id=7, fn="x")

    async with Harness(app) as harness:
        assert await (await harness.start(in_async)).aresult("1s") == [7, "x"]
        assert await (await harness.start(in_def)).aresult("1s") == [7, "x"]


@both_kinds
async def test_with_a_memo_the_function_is_not_called_again(app: TaskFlow, is_async: bool) -> None:
    """S3.1, S4.1"""
    calls: list[str] = []
    passes: list[list[Any]] = []
    values: dict[str, Any] = {
        "number": 41,
        "none": None,
        "false": False,
        "empty": "",
        "list": [1, {"a": None}],
    }

    def note(name: str) -> Any:
        calls.append(name)
        return values[name]

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        passes.append([await step.run(name, note, name) for name in values])
        for n in range(3):
            await step.sleep(f"sleep {n}", "1h")

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        passes.append([step.run(name, note, name) for name in values])
        for n in range(3):
            step.sleep(f"sleep {n}", "1h")

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app, workers=2) as harness:
        run = await harness.start(functions[is_async])
        await harness.advance(hours=3)
        assert await run.astatus() == RunStatus.COMPLETED
        view = await harness.view(run)
        assert {key: step.output for key, step in view.steps.items() if step.kind == "step"} == values
    assert calls == list(values)
    assert passes == [list(values.values())] * 4


async def test_a_sync_function_in_an_async_handler_never_blocks_the_loop(app: TaskFlow) -> None:
    """S3.1"""
    inside, leave = threading.Event(), threading.Event()

    def block() -> bool:
        inside.set()
        assert leave.wait(5)
        return threading.current_thread() is threading.main_thread()

    @app.function()
    async def blocks(ctx: Context[Step], step: Step) -> bool:
        return await step.run("block", block)

    @app.function()
    async def quick(ctx: Context[Step], step: Step) -> str:
        return await step.run("quick", lambda: "quick")

    async with Harness(app) as harness:
        run = await blocks.ainvoke()
        await asyncio.to_thread(inside.wait, 5)
        other = await quick.ainvoke()
        assert await other.aresult("1s") == "quick"
        leave.set()
        assert await run.aresult("1s") is False
        await harness.settled()


async def test_an_async_function_of_a_def_handler_runs_on_the_workers_loop(app: TaskFlow) -> None:
    """S3.1"""
    loops: list[Any] = []

    async def note() -> None:
        loops.append(asyncio.get_running_loop())

    @app.function()
    def handler(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        step.run("note", note)

    async with Harness(app) as harness:
        await harness.start(handler)
    assert loops == [asyncio.get_running_loop()]


async def test_run_wants_the_function_and_not_its_result(app: TaskFlow) -> None:
    """S3.1"""

    @app.function(retries=0)
    async def wrong(ctx: Context[Step], step: Step) -> None:
        await step.run("charge", 42)  # type: ignore[call-overload]

    async with Harness(app) as harness:
        run = await harness.start(wrong)
        with pytest.raises(
            RunFailed,
            match=r"TypeError: step.run\('charge', fn, ...\): fn must be callable, but is int. Pass the function",
        ):
            await run.aresult("1s")


@pytest.mark.parametrize("step_id", ["", "x" * 257, "a\nb", 7, None])
async def test_a_step_id_is_a_printable_text(app: TaskFlow, step_id: Any) -> None:
    """S3: the first argument is always the step id."""
    calls: list[int] = []

    @app.function()
    async def wrong(ctx: Context[Step], step: Step) -> None:
        calls.append(1)
        await step.run(step_id, lambda: 1)

    async with Harness(app) as harness:
        run = await harness.start(wrong)
        with pytest.raises(
            RunFailed, match="a step id must be a string of 1 to 256 printable characters, but is"
        ):
            await run.aresult("1s")
    assert len(calls) == 1


@pytest.mark.parametrize("place", ["handler", "step"])
async def test_to_wait_for_a_run_by_blocking_is_refused_in_async_code(app: TaskFlow, place: str) -> None:
    """S9.9: the loop that it would stop may have to execute the very run that it waits for."""

    @app.function()
    async def child(ctx: Context[Step]) -> int:
        return 1

    @app.function(retries=0)
    async def parent(ctx: Context[Step], step: Step) -> int:
        run = await child.ainvoke({})

        async def wait() -> int:
            return run.result()

        return await (step.run("wait", wait) if place == "step" else wait())

    async with Harness(app):
        run = await parent.ainvoke()
        with pytest.raises(RunFailed, match=r"result\(\) of run .* blocks the event loop.*await step.invoke"):
            await run.aresult("5s")


async def test_a_def_handler_may_wait_for_a_run_by_blocking(app: TaskFlow) -> None:
    @app.function()
    async def child(ctx: Context[Step]) -> int:
        return 1

    @app.function(retries=0)
    def parent(ctx: Context[BlockingStep]) -> int:
        return child.invoke({}).result("5s") + 1

    async with Harness(app):
        assert await (await parent.ainvoke()).aresult("5s") == 2
