"""S3.7: races."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.engine.parking import Parking
from taskflow.errors import NonRetriableError, RunFailed
from taskflow.function import Function
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.store.operation import Operation
from taskflow.testing import Harness
from tests.rules.givens import Gates, both_kinds, has_step
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("no_bugs")


def refuse() -> None:
    raise NonRetriableError("refused")


@both_kinds
async def test_a_race_returns_at_the_first_and_the_run_completes_at_once(
    app: TaskFlow, is_async: bool
) -> None:
    """S3.7: waits and sleeps of the losers are removed; the check for leaks finds nothing."""

    @app.function()
    async def child(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "2d")

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        return await step.parallel(
            (
                lambda: step.sleep("long", "30d"),
                lambda: step.wait_for_event("paid", "paid", "30d"),
                lambda: step.wait_for_event("other", "other", "30d", match="data.x"),
                lambda: step.invoke("child", function=child, timeout="3d"),
                lambda: step.sleep("short", "1h"),
            ),
            mode="race",
        )

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        return step.parallel(
            (
                lambda: step.sleep("long", "30d"),
                lambda: step.wait_for_event("paid", "paid", "30d"),
                lambda: step.wait_for_event("other", "other", "30d", match="data.x"),
                lambda: step.invoke("child", function=child, timeout="3d"),
                lambda: step.sleep("short", "1h"),
            ),
            mode="race",
        )

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        assert harness.slots_in_use == 0
        ended_ms = harness.clock.now_ms() + 3_600_000
        await harness.advance(hours=1)
        assert await run.aresult("1s") is None
        assert (await harness.view(run)).ended_ms == ended_ms
        states = {key: step.state for key, step in (await harness.view(run)).steps.items()}
        assert states == {
            "long": "dropped",
            "paid": "dropped",
            "other": "dropped",
            "child": "dropped",
            "short": "done",
        }
        assert await harness.store.client.call("KEYS", f"{harness.store.keys.prefix}wait*") == []
        await harness.advance(hours=47)  # the child goes on, and nobody waits for it
        (child_run,) = await harness.runs(child)
        assert await child_run.astatus() == RunStatus.COMPLETED


@both_kinds
async def test_the_losers_of_a_race_stay_gone_while_the_run_goes_on(app: TaskFlow, is_async: bool) -> None:
    """S3.7"""
    passes: list[Any] = []

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        first = await step.parallel(
            (lambda: step.wait_for_event("paid", "paid", "1d"), lambda: step.sleep("an hour", "1h")),
            mode="race",
        )
        second = await step.wait_for_event("paid", "paid", "1d")
        passes.append([first, second and second.data])

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        first = step.parallel(
            (lambda: step.wait_for_event("paid", "paid", "1d"), lambda: step.sleep("an hour", "1h")),
            mode="race",
        )
        second = step.wait_for_event("paid", "paid", "1d")
        passes.append([first, second and second.data])

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        await harness.advance(hours=1)
        states = {key: step.state for key, step in (await harness.view(run)).steps.items()}
        assert states == {"paid": "dropped", "an hour": "done", "paid#1": "wait"}
        await harness.send("paid", {"n": 1})
        assert await run.astatus() == RunStatus.COMPLETED
    assert passes == [[None, {"n": 1}]]


@both_kinds
async def test_a_step_that_loses_a_race_ends_and_is_ignored(app: TaskFlow, is_async: bool) -> None:
    """S3.7: the run goes on at once; the step's function comes to its own end, and is never called again."""
    gates = Gates()
    passes: list[Any] = []

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> None:
        won = await step.parallel(
            (lambda: step.run("slow", gates.hold, "slow"), lambda: step.run("fast", gates.hold, "fast")),
            mode="race",
        )
        for _ in range(2):
            await step.sleep("nap", "1h")
        passes.append(won)

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        won = step.parallel(
            (lambda: step.run("slow", gates.hold, "slow"), lambda: step.run("fast", gates.hold, "fast")),
            mode="race",
        )
        for _ in range(2):
            step.sleep("nap", "1h")
        passes.append(won)

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await functions[is_async].ainvoke()
        await until(lambda: len(gates.started) == 2, description="both steps")
        await gates.open("fast")
        await until(lambda: has_step(harness, run, "nap", "wait"), description="the handler's next step")
        gates.gate("slow").set()
        await until(
            lambda: "slow" in gates.ended, description="the end of the loser's function", deadline_s=2
        )
        await harness.settled()
        await harness.advance(hours=2)
        assert await run.astatus() == RunStatus.COMPLETED
    assert passes == ["fast"]
    assert sorted(gates.started) == ["fast", "slow"]


async def test_a_sync_step_that_loses_a_race_ends_and_is_ignored(app: TaskFlow) -> None:
    """S3.7: as above, in a thread."""
    leave, calls = threading.Event(), []

    def slow() -> None:
        calls.append("slow")
        assert leave.wait(5)
        calls.append("slow ended")

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> Any:
        won = await step.parallel(
            (lambda: step.run("slow", slow), lambda: step.run("fast", lambda: "fast")), mode="race"
        )
        await step.sleep("nap", "1h")
        await step.run("after", calls.append, "after")
        return won

    async with Harness(app) as harness:
        run = await handler.ainvoke()
        await until(lambda: has_step(harness, run, "nap", "wait"), description="the handler's next step")
        leave.set()
        await until(lambda: "slow ended" in calls, description="the end of the loser's function")
        await harness.settled()
        await harness.advance(hours=1)
        assert await run.aresult("1s") == "fast"
    assert calls == ["slow", "slow ended", "after"]


async def test_a_run_whose_handler_returns_after_a_race_is_over_though_a_loser_executes(
    app: TaskFlow,
) -> None:
    """S3.7: the run completes at once."""
    leave = threading.Event()

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> Any:
        return await step.parallel(
            (lambda: step.run("slow", leave.wait, 5), lambda: step.run("fast", lambda: "fast")), mode="race"
        )

    async with Harness(app) as harness:
        run = await handler.ainvoke()
        assert await run.aresult("1s") == "fast"
        leave.set()
        await harness.settled()


@both_kinds
async def test_a_race_is_lost_by_who_fails_later_and_won_by_who_fails_first(
    app: TaskFlow, is_async: bool
) -> None:
    """S3.7"""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        return await step.parallel(
            (lambda: step.run("bad", refuse), lambda: step.sleep("nap", "1h")), mode="race"
        )

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        return step.parallel((lambda: step.run("bad", refuse), lambda: step.sleep("nap", "1h")), mode="race")

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        with pytest.raises(RunFailed, match="refused"):
            await run.aresult("1s")


@pytest.mark.parametrize("winner", ["a", "b", "c"])
async def test_a_race_has_the_same_winner_in_the_replay(app: TaskFlow, winner: str) -> None:
    """S3.7, S4.1"""
    passes: list[Any] = []

    @app.function()
    async def handler(ctx: Context[Step], step: Step) -> None:
        async def branch(name: str) -> str:
            await step.wait_for_event(name, f"go {name}", "1d")
            return name

        first = await step.parallel([partial(branch, name) for name in "abc"], mode="race")
        done, pending = await asyncio.wait(
            [asyncio.create_task(branch(name)) for name in "abc"], return_when=asyncio.FIRST_COMPLETED
        )
        second = [task.result() for task in done]
        for task in pending:
            task.cancel()
        passes.append([first, second])
        await step.sleep("nap", "1h")
        await step.sleep("nap", "1h")

    async with Harness(app) as harness:
        run = await harness.start(handler)
        await harness.send(f"go {winner}")
        await harness.send(f"go {winner}")
        await harness.send("go a")
        await harness.advance(hours=2)
        assert await run.astatus() == RunStatus.COMPLETED
    assert passes == [[winner, [winner]]] * 3


@both_kinds
async def test_a_race_without_branches_fails_the_run_and_says_why(app: TaskFlow, is_async: bool) -> None:
    """S3.7: a retry would not help."""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        return await step.parallel((), mode="race")

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        return step.parallel((), mode="race")

    async with Harness(app) as harness:
        run = await harness.start(in_async if is_async else in_def)
        with pytest.raises(RunFailed, match="needs at least one branch, got none"):
            await run.aresult("5s")


async def test_a_branch_that_loses_in_the_turn_in_which_it_is_resolved_holds_up_no_other(
    app: TaskFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3.7: its outcome had its place in the order, and what came after it waited for that for ever."""
    gates = Gates()
    losers: list[asyncio.Task[Any]] = []
    resolved = Parking.resolved

    def resolve_and_lose(parking: Parking, key: str, op: Operation) -> None:
        resolved(parking, key, op)
        losers[0].cancel()

    monkeypatch.setattr(Parking, "resolved", resolve_and_lose)

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> str:
        losers.append(asyncio.create_task(step.wait_for_event("paid", "paid", "1h")))
        await step.run("hold", gates.hold, "hold")
        return await step.run("after", str, "done")

    async with Harness(app) as harness:
        run = await work.ainvoke()
        await until(lambda: has_step(harness, run, "paid", "wait"), description="the wait")
        await app.asend("paid")
        await until(lambda: losers[0].cancelled(), description="the loser's end")
        await gates.open("hold")
        assert await run.aresult("5s") == "done"
