"""Parallel steps on fewer slots than steps. Rule S4.4."""

from __future__ import annotations

import asyncio
import time

import pytest

from taskflow import Context, Step, TaskFlow
from taskflow.engine.offers import LOOK_S
from taskflow.run import RunStatus
from taskflow.store.claimed import Claim
from taskflow.store.hints import Hint
from taskflow.testing import Harness
from tests.rules.givens import Gates, has_step
from tests.waiting import until


async def nothing() -> None:
    """A step's work."""


@pytest.mark.parametrize("steps", [3, 60])
async def test_parallel_steps_end_in_a_process_with_a_single_slot(app: TaskFlow, steps: int) -> None:
    def same(number: int) -> int:
        return number

    @app.function()
    async def gather(ctx: Context[Step], step: Step) -> list[int]:
        return await asyncio.gather(*[step.run(f"step {n}", same, n) for n in range(steps)])

    async with Harness(app, concurrency=1, deadline_s=30) as harness:
        run = await harness.start(gather)
        assert await run.aresult("1s") == list(range(steps))
        assert harness.slots_in_use == 0


async def test_steps_of_a_full_process_follow_one_another_in_the_slot_of_their_run(app: TaskFlow) -> None:
    calls: list[int] = []

    @app.function()
    async def gather(ctx: Context[Step], step: Step) -> int:
        calls.append(1)
        return len(await asyncio.gather(*[step.run(f"step {n}", nothing) for n in range(60)]))

    async with Harness(app, concurrency=1, deadline_s=30) as harness:
        run = await harness.start(gather)
        assert await run.aresult("5s") == 60
    assert len(calls) == 1, "a replay for each step"


async def test_slow_steps_execute_in_both_processes_and_the_run_is_replayed_once(app: TaskFlow) -> None:
    """S4.4: a process that has taken a step takes the next one without another replay, though it has a single slot."""
    gates, calls = Gates(), list[int]()
    names = ["one", "two", "three", "four"]

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> list[str]:
        calls.append(1)
        return await asyncio.gather(*[step.run(name, gates.hold, name) for name in names])

    async with Harness(app, workers=2, concurrency=1) as harness:
        run = await work.ainvoke()
        await until(lambda: len(gates.started) == 2, description="a step in each process")
        elsewhere = gates.started[1]
        await gates.open(elsewhere)
        await until(lambda: len(gates.started) == 3, description="a second step in that process")
        # The first one last, which executes in the run's own process: without it the run would be suspended.
        for name in reversed(names):
            if name != elsewhere:
                await gates.open(name)
        assert await run.aresult("5s") == names
        workers = [step.worker for step in (await harness.view(run)).steps.values()]
        assert len(set(workers)) == 2
        await harness.settled()
        assert harness.slots_in_use == 0
    assert len(calls) == 2, "the run, and its replay"


async def test_a_process_takes_many_steps_of_a_run_with_one_replay(app: TaskFlow) -> None:
    gates, calls = Gates(), list[int]()
    names = [f"step {n}" for n in range(12)]

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> list[str]:
        calls.append(1)
        return await asyncio.gather(*[step.run(name, gates.hold, name) for name in names])

    async with Harness(app, workers=2, concurrency=6):
        run = await work.ainvoke()
        await until(lambda: len(gates.started) == 12, description="all steps, in both processes")
        # Those of the run's own process last: without any the run would be suspended.
        for name in reversed(names):
            await gates.open(name)
        assert await run.aresult("5s") == names
    assert len(calls) == 2, "the run, and one replay"


async def test_a_step_goes_elsewhere_soon_while_no_slot_comes_free(app: TaskFlow) -> None:
    """The best of several: the machine may be busy."""
    waited_s: list[float] = []

    @app.function()
    async def pair(ctx: Context[Step], step: Step) -> None:
        began_s, other = time.monotonic(), asyncio.Event()

        async def first() -> None:
            await other.wait()

        async def second() -> float:
            return time.monotonic()

        async def release() -> None:
            waited_s.append(await step.run("second", second) - began_s)
            other.set()

        await asyncio.gather(step.run("first", first), release())

    async with Harness(app, workers=2, concurrency=1) as harness:
        for _ in range(5):
            run = await app.ainvoke(pair)
            await run.aresult("5s")
            await harness.settled()
    assert LOOK_S <= min(waited_s) < 2 * LOOK_S


async def test_a_run_that_ends_while_it_takes_an_offer_back_loses_no_slot(app: TaskFlow) -> None:
    """S4.3: the slot that the step got was nobody's any more, and the process had one less for ever."""
    gates = Gates()
    gates.gate("offered").set()
    asked, answer = asyncio.Event(), asyncio.Event()

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> None:
        await asyncio.gather(*[step.run(name, gates.hold, name) for name in ("first", "second", "offered")])

    async def take_back_slowly(*_: object, **__: object) -> tuple[bool, list[Hint]]:
        asked.set()
        await answer.wait()
        raise AssertionError("the run has ended before")

    async with Harness(app, concurrency=2) as harness:
        (process,) = harness.workers
        process.executor.claims.withdraw_offer = take_back_slowly  # type: ignore[method-assign]
        run = await work.ainvoke()
        await until(lambda: has_step(harness, run, "offered", "offer"), description="the offer")
        await gates.open("second")
        async with asyncio.timeout(5):
            await asked.wait()
        await run.acancel()
        await gates.open("first")
        await harness.settled()
        assert await run.astatus() is RunStatus.CANCELLED
        assert harness.slots_in_use == 0


async def test_who_executes_an_offered_step_begins_nothing_else(app: TaskFlow) -> None:
    """S4.4: a sleep into the past is a memo at once, for the run to store; to wait for that here cost a slot for ever."""
    gates = Gates()
    reached: list[str] = []

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> None:
        async def late() -> None:
            await asyncio.sleep(LOOK_S)
            reached.append("late")
            await step.sleep_until("late", 0)

        await asyncio.gather(*[step.run(name, gates.hold, name) for name in ("first", "offered")], late())

    async with Harness(app, workers=2, concurrency=1) as harness:
        run = await work.ainvoke()
        await until(lambda: len(gates.started) == 2, description="the offered step")
        await until(lambda: len(reached) == 2, description="the sleep, in both processes")
        await gates.open("offered")
        await gates.open("first")
        await run.aresult("5s")
        await harness.settled()
        assert harness.slots_in_use == 0


class TakingBack:
    """Takes an offer back in the store, if it is told to, and never hears of the reply."""

    def __init__(self, harness: Harness, *, reaches_store: bool) -> None:
        self.asked = asyncio.Event()
        self.reaches_store = reaches_store
        for process in harness.workers:
            self.withdraw = process.executor.claims.withdraw_offer
            process.executor.claims.withdraw_offer = self.without_reply  # type: ignore[method-assign]

    async def without_reply(self, claim: Claim, step_key: str, *, now_ms: int) -> tuple[bool, list[Hint]]:
        if self.reaches_store:
            await self.withdraw(claim, step_key, now_ms=now_ms)
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError("the step is given up before")


@pytest.mark.parametrize("is_taken", [True, False])
async def test_a_step_that_is_given_up_while_its_offer_is_taken_back_keeps_its_outcome(
    app: TaskFlow, is_taken: bool
) -> None:
    """S4.1: the outcome that another process has stored stays. Without one, no replay executes the step."""
    gates, given_up = Gates(), asyncio.Event()

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> str:
        first = asyncio.ensure_future(step.run("first", gates.hold, "first"))
        offered = asyncio.ensure_future(step.run("offered", gates.hold, "offered"))
        await first
        await given_up.wait()
        offered.cancel()
        with pytest.raises(asyncio.CancelledError):
            await offered
        await step.sleep("nap", "1h")
        return "went on"

    async with Harness(app, workers=1 + is_taken, concurrency=1) as harness:
        taking_back = TakingBack(harness, reaches_store=not is_taken)
        run = await work.ainvoke()
        await until(
            lambda: has_step(harness, run, "offered", "taken" if is_taken else "offer"),
            description="the offer",
        )
        await gates.open("first")
        async with asyncio.timeout(5):
            await taking_back.asked.wait()
        if is_taken:
            await gates.open("offered")
            await until(lambda: has_step(harness, run, "offered", "done"), description="the outcome")
        given_up.set()
        await harness.settled()
        await harness.advance(hours=1)
        assert await run.aresult("2s") == "went on"
        assert await has_step(harness, run, "offered", "done" if is_taken else "dropped")
        assert harness.slots_in_use == 0
    assert gates.started == ["first", "offered"][: 1 + is_taken]
