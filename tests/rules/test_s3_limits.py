"""S3.10: limits."""

from __future__ import annotations

import time
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
from taskflow.step import Step
from taskflow.testing import Harness
from tests.conftest import MakeApp
from tests.rules.givens import both_kinds

pytestmark = pytest.mark.usefixtures("no_bugs")


def test_the_limits_have_their_defaults(app: TaskFlow) -> None:
    """S3.10"""
    assert app.config.max_steps == 1_000
    assert app.config.max_step_output_bytes == 4 * 1024 * 1024
    assert app.config.max_run_bytes == 32 * 1024 * 1024


@both_kinds
async def test_a_run_may_have_1000_steps_and_not_1001(app: TaskFlow, is_async: bool) -> None:
    """S3.10"""
    calls: list[int] = []

    async def note() -> None:
        calls.append(1)

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> str:
        for _ in range(ctx.event.data["steps"]):
            await step.run("one more", note)
        return "done"

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> str:
        for _ in range(ctx.event.data["steps"]):
            step.run("one more", note)
        return "done"

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async], {"steps": 1_000})
        assert await run.aresult("1s") == "done"
        run = await harness.start(functions[is_async], {"steps": 1_001})
        with pytest.raises(
            RunFailed,
            match="LimitExceeded: step 'one more' would be number 1001, but a run has at most 1000 steps",
        ):
            await run.aresult("1s")
    assert len(calls) == 2_000


async def test_max_steps_is_configurable_and_counts_all_kinds(make_app: MakeApp) -> None:
    """S3.10"""
    app = make_app(max_steps=3)

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> None:
        await step.run("a", lambda: 1)
        await step.sleep("b", "1h")
        await step.send_event("c", Event("x"))
        await step.wait_for_event("d", "never", timeout="1h")

    async with Harness(app) as harness:
        run = await harness.start(handler)
        await harness.advance(hours=1)
        with pytest.raises(
            RunFailed,
            match=r"LimitExceeded: step 'd' would be number 4, but a run has at most 3 steps\. .*max_steps",
        ):
            await run.aresult("1s")


@both_kinds
async def test_a_step_output_over_the_limit_fails_the_run_at_once(make_app: MakeApp, is_async: bool) -> None:
    """S3.10"""
    app = make_app(max_step_output_bytes=1_000)
    calls: list[int] = []

    def make(size: int) -> str:
        calls.append(size)
        return "x" * (size - 2)

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        await step.run("fits", make, 1_000)
        await step.run("too much", make, 1_001)

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        step.run("fits", make, 1_000)
        step.run("too much", make, 1_001)

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    text = r"LimitExceeded: step 'too much' returned 1,001 bytes of JSON, but at most 1,000 are allowed \(max_step_output_bytes\)"
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        with pytest.raises(RunFailed, match=text):
            await run.aresult("1s")
    assert calls == [1_000, 1_001]


@both_kinds
async def test_an_output_of_the_function_over_the_limit_fails_the_run_at_once(
    make_app: MakeApp, is_async: bool
) -> None:
    """S3.10"""
    app = make_app(max_step_output_bytes=1_000)

    @app.function(id="async")
    async def in_async(ctx: Context[Step]) -> str:
        return "x" * int(ctx.event.data["size"] - 2)

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep]) -> str:
        return "x" * int(ctx.event.data["size"] - 2)

    function: Function[..., Any] = in_async if is_async else in_def
    async with Harness(app) as harness:
        assert len(await (await harness.start(function, {"size": 1_000})).aresult("1s")) == 998
        run = await harness.start(function, {"size": 1_001})
        with pytest.raises(
            RunFailed, match=r"LimitExceeded: shop/.* returned 1,001 bytes of JSON, but at most 1,000"
        ):
            await run.aresult("1s")


async def test_a_childs_output_over_the_limit_fails_the_invoke(make_app: MakeApp) -> None:
    """S3.10: what an invoke returns is a step's output as well."""
    app = make_app(max_step_output_bytes=1_000)

    @app.function()
    async def child(ctx: Context[Step]) -> str:
        return "x" * int(ctx.event.data["size"] - 2)

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> int:
        return len(await step.invoke("child", function=child, data={"size": ctx.event.data["size"]}))

    async with Harness(app) as harness:
        run = await harness.start(parent, {"size": 1_000})
        assert await run.aresult("1s") == 998
        run = await harness.start(parent, {"size": 1_001})
        with pytest.raises(RunFailed, match="LimitExceeded: .*1,001 bytes.* 1,000 are allowed"):
            await run.aresult("1s")


@both_kinds
async def test_a_state_over_the_limit_fails_the_run(make_app: MakeApp, is_async: bool) -> None:
    """S3.10"""
    app = make_app(max_step_output_bytes=1_000, max_run_bytes=3_000)
    calls: list[int] = []

    def make() -> str:
        calls.append(1)
        return "x" * 800

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        for _ in range(2):
            await step.run("more", make)
        await step.sleep("replay", "1h")
        for _ in range(10):
            await step.run("more", make)

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        for _ in range(2):
            step.run("more", make)
        step.sleep("replay", "1h")
        for _ in range(10):
            step.run("more", make)

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        await harness.advance(hours=1)
        with pytest.raises(
            RunFailed,
            match=r"LimitExceeded: the steps of run .* hold 3,\d\d\d bytes, but at most 3,000 are allowed \(max_run_bytes\)",
        ):
            await run.aresult("1s")
    assert len(calls) == 4


async def test_what_waits_and_invokes_bring_counts_for_the_state_too(make_app: MakeApp) -> None:
    """S3.10"""
    app = make_app(max_step_output_bytes=1_000, max_run_bytes=3_000)

    @app.function()
    async def child(ctx: Context[Step]) -> str:
        return "x" * 800

    @app.function()
    async def invoking(ctx: Context[Step], step: Step) -> None:
        for _ in range(10):
            await step.invoke("child", function=child)

    @app.function()
    async def waiting(ctx: Context[Step], step: Step) -> None:
        for _ in range(10):
            await step.wait_for_event("paid", "paid", timeout="1h")

    async with Harness(app) as harness:
        run = await harness.start(waiting)
        for _ in range(10):
            await harness.send("paid", {"text": "x" * 800})
        with pytest.raises(RunFailed, match=r"LimitExceeded: .* 3,000 are allowed \(max_run_bytes\)"):
            await run.aresult("1s")
        run = await harness.start(invoking)
        with pytest.raises(RunFailed, match=r"LimitExceeded: .* 3,000 are allowed \(max_run_bytes\)"):
            await run.aresult("1s")


async def test_large_states_within_the_limits_work(app: TaskFlow) -> None:
    """S3.10"""
    chunk = "x" * (4 * 1024 * 1024 - 2)

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> int:
        total = 0
        for _ in range(7):
            total += len(await step.run("chunk", lambda: chunk))
        await step.sleep("replay", "1h")
        return total

    began = time.monotonic()
    async with Harness(app) as harness:
        run = await harness.start(handler)
        await harness.advance(hours=1)
        assert await run.aresult("5s") == 7 * len(chunk)
    assert time.monotonic() - began < 10
