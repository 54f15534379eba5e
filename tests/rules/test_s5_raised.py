"""S5.1, S5.4: whatever user code raises, wherever it does, is a recorded outcome; the process and other runs go on."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from taskflow import Context, NonRetriableError, RunFailed, Step, StepError, TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context as AnyContext
from taskflow.testing import Harness

pytestmark = pytest.mark.usefixtures("no_bugs")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class OddBase(BaseException):
    pass


RAISED: dict[str, BaseException] = {
    "StopIteration": StopIteration("done"),
    "StopAsyncIteration": StopAsyncIteration("done"),
    "GeneratorExit": GeneratorExit("done"),
    "SystemExit": SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "CancelledError": asyncio.CancelledError("somebody else's"),
    "Unspeakable": Unspeakable(),
    "OddBase": OddBase("odd"),
    "surrogate": ValueError("caf\udce9.txt"),
    "huge": ValueError("x" * 10_000_000),
    "ExceptionGroup": ExceptionGroup("several", [ValueError("a"), KeyError("b")]),
}


def throw(name: str) -> None:
    raise RAISED[name]


async def athrow(name: str) -> None:
    raise RAISED[name]


def shown(name: str, error: Any) -> None:
    """The error tells what was raised, in texts that fit."""
    wanted = {"surrogate": "ValueError", "huge": "ValueError"}.get(name, name)
    # A coroutine can't raise these by itself: Python makes a RuntimeError of them, and says so.
    assert error.name == wanted or (error.name == "RuntimeError" and wanted in str(error))
    assert len(error.message) < 17_000
    assert len(error.stack) < 17_000
    str(error).encode()


@pytest.mark.parametrize("name", RAISED)
@pytest.mark.parametrize("place", ["step", "def step", "parallel", "race", "handler"])
async def test_an_async_handler(app: TaskFlow, name: str, place: str) -> None:
    @app.function(retries=0)
    async def bystander(ctx: Context[Step], step: Step) -> str:
        await step.sleep("nap", "1s")
        return "well"

    @app.function(retries=0)
    async def victim(ctx: Context[Step], step: Step) -> None:
        if place == "handler":
            await athrow(name)
        elif place == "step":
            await step.run("it", athrow, name)
        elif place == "def step":
            await step.run("it", throw, name)
        else:
            both = [partial(step.run, "it", athrow, name), partial(step.run, "it too", throw, name)]
            await step.parallel(both, mode="race" if place == "race" else "all")

    async with Harness(app, workers=1) as harness:
        other = await bystander.ainvoke()
        run = await victim.ainvoke()
        with pytest.raises(RunFailed) as caught:
            await run.aresult()
        shown(name, caught.value)
        await harness.advance(seconds=2)
        assert await other.aresult() == "well"


@pytest.mark.parametrize("name", RAISED)
@pytest.mark.parametrize("place", ["step", "async step", "parallel", "handler"])
async def test_a_def_handler(app: TaskFlow, name: str, place: str) -> None:
    @app.function(retries=0)
    def victim(ctx: AnyContext[BlockingStep], step: BlockingStep) -> None:
        if place == "handler":
            throw(name)
        elif place == "step":
            step.run("it", throw, name)
        elif place == "async step":
            step.run("it", athrow, name)
        else:
            step.parallel([partial(step.run, "it", throw, name), partial(step.run, "it too", athrow, name)])

    async with Harness(app, workers=1):
        run = await victim.ainvoke()
        with pytest.raises(RunFailed) as caught:
            await run.aresult()
        shown(name, caught.value)


@pytest.mark.parametrize("name", ["StopIteration", "SystemExit", "CancelledError", "OddBase"])
async def test_it_counts_as_an_attempt_and_the_handler_may_catch_it(app: TaskFlow, name: str) -> None:
    calls: list[str] = []

    def fails_once() -> str:
        calls.append(name)
        if len(calls) == 1:
            throw(name)
        return "second"

    @app.function(retries=1)
    async def function(ctx: Context[Step], step: Step) -> list[str]:
        first = await step.run("once", fails_once)
        try:
            await step.run("always", throw, name)
        except StepError as error:
            return [first, error.name]
        return []

    async with Harness(app) as harness:
        run = await function.ainvoke()
        await harness.advance(minutes=5)
        assert await run.aresult() == ["second", name]


@pytest.mark.parametrize("name", ["StopIteration", "SystemExit"])
async def test_on_failure_that_raises_it_fails_alone(app: TaskFlow, name: str) -> None:
    async def on_failure(ctx: Context[Step]) -> None:
        throw(name)

    @app.function(retries=0, on_failure=on_failure)
    async def function(ctx: Context[Step]) -> None:
        raise ValueError("first")

    async with Harness(app) as harness:
        run = await function.ainvoke()
        with pytest.raises(RunFailed, match="first"):
            await run.aresult()
        await harness.advance(hours=1)


async def test_a_group_of_final_errors_is_final(app: TaskFlow) -> None:
    """S5.3: and one in which something may be tried again is tried again."""
    calls: list[str] = []

    @app.function(retries=3)
    async def final(ctx: Context[Step], step: Step) -> None:
        calls.append("final")
        raise ExceptionGroup(
            "several", [NonRetriableError("a"), ExceptionGroup("more", [NonRetriableError("b")])]
        )

    @app.function(retries=1)
    async def mixed(ctx: Context[Step], step: Step) -> None:
        calls.append("mixed")
        raise ExceptionGroup("several", [NonRetriableError("a"), ValueError("b")])

    async with Harness(app) as harness:
        runs = [await final.ainvoke(), await mixed.ainvoke()]
        await harness.advance(hours=1)
        for run in runs:
            with pytest.raises(RunFailed, match="several"):
                await run.aresult()
    assert sorted(calls) == ["final", "mixed", "mixed"]


@pytest.mark.parametrize("step_id", ["caf\udce9.txt", "a\x85b", "a\x00b", "a\x7fb"])
async def test_an_id_that_cannot_be_stored_is_refused_and_others_go_on(app: TaskFlow, step_id: str) -> None:
    """S3.8: half of a character got stuck in the connection, and each later reply went to another command."""

    @app.function(retries=0)
    async def odd(ctx: Context[Step], step: Step) -> None:
        await step.run(step_id, throw, "SystemExit")

    @app.function(retries=0)
    async def well(ctx: Context[Step], step: Step) -> str:
        return await step.run("one", str, "well")

    async with Harness(app):
        run = await odd.ainvoke()
        with pytest.raises(RunFailed, match="a step id must be a string of 1 to"):
            await run.aresult()
        assert await (await well.ainvoke()).aresult() == "well"
