"""S4.1: a step that user code cancels is given up, and no replay executes it again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.event import Event
from taskflow.retries import Retries
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.rules.crashes import Cut, Doomed, new_worker
from tests.rules.journal import memos
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("no_bugs")


class Endless:
    """A step function that never ends by itself, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.begun = asyncio.Event()

    async def work(self) -> None:
        self.calls += 1
        self.begun.set()
        await asyncio.Event().wait()


async def by_timeout(step: Step, call: Callable[[], Awaitable[object]], begun: asyncio.Event) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await call()


async def by_wait_for(step: Step, call: Callable[[], Awaitable[object]], begun: asyncio.Event) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call(), 0.02)


async def by_cancel(step: Step, call: Callable[[], Awaitable[object]], begun: asyncio.Event) -> None:
    task = asyncio.ensure_future(call())
    await step.run("while it goes on", begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_task_group(step: Step, call: Callable[[], Awaitable[object]], begun: asyncio.Event) -> None:
    async def fail() -> None:
        await begun.wait()
        raise ValueError("no")

    async def flow() -> None:
        await step.with_options(retries=0).run("fails", fail)

    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(as_coroutine(call))
            group.create_task(flow())


async def as_coroutine(call: Callable[[], Awaitable[object]]) -> None:
    await call()


WAYS = [by_timeout, by_wait_for, by_cancel, by_task_group]
ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@ways
async def test_a_step_that_user_code_cancels_is_not_executed_again(
    app: TaskFlow, way: Callable[..., Awaitable[None]]
) -> None:
    """S4.1: in none of the replays; nor is it begun by code that goes on to steps of other ids."""
    endless = Endless()

    @app.function
    async def flow(ctx: Context[Step], step: Step) -> str:
        await way(step, lambda: step.run("endless", endless.work), endless.begun)
        for _ in range(3):
            await step.sleep("nap", "1h")
        return "went on"

    async with Harness(app) as harness:
        run = await harness.start(flow)
        assert (await memos(harness, run))["endless"].state == "dropped"
        await harness.advance(hours=3)
        assert await run.aresult("2s") == "went on"
    assert endless.calls == 1


@ways
@pytest.mark.parametrize("kind", ["sleep", "event", "signal", "invoke"])
async def test_a_wait_that_user_code_cancels_is_not_begun_again(
    app: TaskFlow, way: Callable[..., Awaitable[None]], kind: str
) -> None:
    """S4.1: neither its time, nor an event, a signal or a run that comes later lets a replay go on from it."""
    begun = asyncio.Event()
    begun.set()

    @app.function
    async def child(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "2h")

    @app.function
    async def flow(ctx: Context[Step], step: Step) -> str:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "sleep": lambda: step.sleep("x", "2h"),
            "event": lambda: step.wait_for_event("x", "paid", timeout="1 day"),
            "signal": lambda: step.wait_for_signal("x", "ok", timeout="1 day"),
            "invoke": lambda: step.invoke("x", function=child),
        }
        await way(step, calls[kind], begun)
        for _ in range(3):
            await step.sleep("nap", "1h")
        return "went on"

    async with Harness(app) as harness:
        run = await harness.start(flow)
        assert (await memos(harness, run))["x"].state == "dropped"
        await harness.advance(hours=1)
        await harness.send(Event("paid"))
        assert await app.asend_signal("ok") is False
        await harness.advance(hours=2)
        assert await run.aresult("2s") == "went on"
        assert (await memos(harness, run))["x"].state == "dropped"


async def test_a_step_that_waits_for_a_slot_is_given_up_too(app: TaskFlow) -> None:
    """S4.1, S4.4"""
    endless = Endless()
    executed: list[int] = []

    @app.function
    async def flow(ctx: Context[Step], step: Step) -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.03):
                await asyncio.gather(
                    step.run("endless", endless.work), *[step.run(f"next {n}", executed.append, n) for n in range(3)]
                )  # fmt: skip
        await step.sleep("nap", "1h")
        return "went on"

    async with Harness(app, concurrency=1) as harness:
        run = await harness.start(flow)
        await harness.advance(hours=1)
        assert await run.aresult("2s") == "went on"
        assert {op.state for key, op in (await memos(harness, run)).items() if key != "nap"} == {"dropped"}
    assert (endless.calls, executed) == (1, [])


async def test_a_given_up_step_stays_so_when_the_code_after_it_fails(app: TaskFlow) -> None:
    """S4.1, S5.1: the next attempt at the code between the steps is a replay."""
    endless = Endless()
    attempts: list[int] = []

    @app.function(retries=Retries(2, initial="1s", jitter=False))
    async def flow(ctx: Context[Step], step: Step) -> str:
        attempts.append(ctx.attempt)
        await by_timeout(step, lambda: step.run("endless", endless.work), endless.begun)
        if ctx.attempt == 0:
            raise ValueError("once")
        return "went on"

    async with Harness(app) as harness:
        run = await harness.start(flow)
        await harness.advance(seconds=1)
        assert await run.aresult("2s") == "went on"
    assert (endless.calls, attempts) == (1, [0, 1])


async def test_a_given_up_step_stays_so_when_its_process_drains(app: TaskFlow) -> None:
    """S4.1, S9.6"""
    endless, entered = Endless(), asyncio.Event()

    @app.function
    async def flow(ctx: Context[Step], step: Step) -> str:
        await by_timeout(step, lambda: step.run("endless", endless.work), endless.begun)
        if not entered.is_set():
            entered.set()
            await asyncio.gather(asyncio.Event().wait(), asyncio.Event().wait())
        return "went on"

    async with Harness(app, workers=0) as harness:
        first = new_worker(app, harness)
        await first.start()
        run = await flow.ainvoke()
        await entered.wait()
        await first.stop(drain_timeout_s=5)
        second = new_worker(app, harness)
        await second.start()
        assert await run.aresult("3s") == "went on"
        await second.stop()
    assert endless.calls == 1


async def test_a_crash_before_anything_was_stored_executes_it_again(app: TaskFlow) -> None:
    """S4.1: what was given up is stored with the next step; until then nobody knows of it."""
    endless, stopped = Endless(), asyncio.Event()

    @app.function
    async def flow(ctx: Context[Step], step: Step) -> str:
        await by_timeout(step, lambda: step.run("endless", endless.work), endless.begun)
        if not stopped.is_set():
            stopped.set()
            await asyncio.Event().wait()
        return "went on"

    async with Harness(app, workers=0) as harness:
        doomed = await Doomed.start(app, harness, cut=Cut(after=1_000))
        run = await flow.ainvoke()
        await stopped.wait()
        await doomed.give_up()
        survivor = new_worker(app, harness)
        await survivor.start()
        assert await run.aresult("3s") == "went on"
        await survivor.stop()
        await doomed.bury()
    assert endless.calls == 2


@pytest.mark.parametrize("kind", ["step", "sleep"])
async def test_what_was_given_up_begins_anew_when_the_code_does_not_give_it_up_any_more(
    app: TaskFlow, kind: str
) -> None:
    """S4.1, S4.5: else the run would wait for ever for what nothing ends."""
    executed: list[str] = []
    gives_up = True

    async def work() -> str:
        executed.append("work")
        if gives_up:
            await asyncio.Event().wait()
        return "worked"

    @app.function
    async def flow(ctx: Context[Step], step: Step) -> object:
        async def call() -> object:
            return await (step.run("x", work) if kind == "step" else step.sleep("x", "1h"))

        if gives_up:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(call(), 0.02)
            await step.sleep("nap", "1h")
            return "old"
        return await call()

    async with Harness(app) as harness:
        run = await harness.start(flow)
        gives_up = False
        await harness.advance(hours=1)
        if kind == "sleep":
            assert await run.astatus() is RunStatus.WAITING
            await harness.advance(hours=1)
        assert await run.aresult("2s") == ("worked" if kind == "step" else None)
    assert executed == (["work", "work"] if kind == "step" else [])


async def test_a_worker_that_holds_what_was_given_up_may_stop(app: TaskFlow) -> None:
    """S4.3: a replay that rests in what was given up, within a time limit, ends with its process."""
    endless = Endless()
    calls: list[int] = []

    @app.function
    async def flow(ctx: Context[Step], step: Step) -> str:
        calls.append(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02 if len(calls) == 1 else 0.2):
                await step.run("endless", endless.work)
        await step.sleep("nap", "1h")
        return "went on"

    async with Harness(app) as harness:
        run = await harness.start(flow)
        harness.clock.advance(hours=1)
        await until(lambda: len(calls) == 2, description="the replay")
        await harness.advance(hours=1)
        assert await run.aresult("2s") == "went on"
    assert endless.calls == 1
