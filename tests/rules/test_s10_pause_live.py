"""S10.4: what a pause does to live runs."""

from __future__ import annotations

import asyncio
import re
from random import Random

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.event import Event
from taskflow.flow.concurrency import Concurrency
from taskflow.retries import Retries
from taskflow.run import Run, RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.rules.givens import Gates, has_step
from tests.rules.views import view
from tests.waiting import until


async def test_a_running_run_ends_its_step_and_goes_on_when_resumed(app: TaskFlow) -> None:
    """S10.4: it is handed back before its next step, and nothing of it is done twice."""
    gates = Gates()

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> list[str]:
        return [await step.run("first", gates.hold, "first"), await step.run("second", gates.hold, "second")]

    async with Harness(app) as harness:
        run = await work.ainvoke()
        await until(lambda: gates.started == ["first"], description="the first step")
        await app.apause(work)
        assert harness.slots_in_use == 1, "the step still executes"
        assert ((await view(harness, run)).why or "").endswith(", paused once its step ends")
        gates.gate("first").set()
        gates.gate("second").set()
        await until(lambda: status_is(run, RunStatus.QUEUED), description="the run is handed back")
        await harness.settled()
        assert gates.started == ["first"]
        assert await has_step(harness, run, "first", "done")
        assert harness.slots_in_use == 0
        told = await view(harness, run)
        assert re.fullmatch(r"paused since 00:00: taskflow resume shop/work", told.why or "")
        await app.aresume(work)
        assert await run.aresult("2s") == ["first", "second"]
        assert (await view(harness, run)).crashes == ()
    assert gates.started == ["first", "second"]


async def status_is(run: Run, status: RunStatus) -> bool:
    return await run.astatus() is status


async def test_queued_runs_are_held(app: TaskFlow) -> None:
    """S10.4: those that found no slot before the pause are claimed by nobody, and go on in their order."""
    gates, order = Gates(), []

    @app.function()
    async def busy(ctx: Context[Step], step: Step) -> None:
        await step.run("hold", gates.hold, "busy")

    @app.function(trigger="order")
    async def work(ctx: Context[Step]) -> None:
        order.append(ctx.event.id)

    async with Harness(app, concurrency=1) as harness:
        blocker = await busy.ainvoke()
        await until(lambda: gates.started == ["busy"], description="the slot is taken")
        for event_id in ("a", "b", "c"):
            await app.asend("order", id=event_id)
            await until(lambda: is_routed(harness, event_id), description=f"{event_id} is routed")  # noqa: B023
        await app.apause(work)
        await gates.open("busy")
        await blocker.aresult("2s")
        await harness.settled()
        assert order == []
        assert [await run.astatus() for run in await harness.runs(work)] == [RunStatus.QUEUED] * 3
        await app.aresume(work)
        await harness.settled()
    assert order == ["a", "b", "c"]


async def is_routed(harness: Harness, event_id: str) -> bool:
    return bool(await harness.store.history.uids_of(event_id))


@pytest.mark.parametrize("kind", ["sleep", "event", "retry", "handler retry", "scheduled"])
async def test_what_wakes_meanwhile_is_held(app: TaskFlow, kind: str) -> None:
    """S10.4: sleeps, waits, retries and delayed starts go on; their runs are queued then, until it is resumed."""
    tries = 0

    def fail_once() -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ValueError("not yet")
        return "done"

    @app.function(trigger="order", retries=Retries(2, initial="1m", jitter=False))
    async def work(ctx: Context[Step], step: Step) -> str:
        if kind == "sleep":
            await step.sleep("nap", "1m")
        elif kind == "event":
            await step.wait_for_event("paid", "paid", "1h")
        elif kind == "retry":
            return await step.run("try", fail_once)
        elif kind == "handler retry":
            return fail_once()
        return "done"

    async with Harness(app) as harness:
        ts = harness.clock.now_ms() + 60_000 if kind == "scheduled" else None
        (event_id,) = await harness.send("order", ts=ts)
        run = await harness.run_of(work, event_id)
        await app.apause(work)
        assert not (await run.astatus()).is_final
        if kind == "event":
            await harness.send("paid")
        await harness.advance(minutes=2)
        assert await run.astatus() is RunStatus.QUEUED
        assert harness.slots_in_use == 0
        await app.aresume(work)
        await harness.settled()
        assert await run.aresult("1s") == "done"


async def test_a_run_that_was_claimed_as_the_pause_came_does_not_begin(app: TaskFlow) -> None:
    """S10.4: pauses between many sends; whatever the interleaving, nothing begins later than the pause is known."""
    begun: list[str] = []

    @app.function(trigger="order")
    async def work(ctx: Context[Step], step: Step) -> None:
        for number in range(5):
            await step.run("work", lambda: begun.append(ctx.event.id))
            await asyncio.sleep(0.001 * number)

    async with Harness(app) as harness:
        sending = [asyncio.create_task(app.asend("order")) for _ in range(50)]
        await app.apause(work)
        await asyncio.gather(*sending)
        await harness.settled()
        at_pause = len(begun)
        runs = await harness.runs(work)
        statuses = {await run.astatus() for run in runs}
        assert statuses <= {RunStatus.SKIPPED, RunStatus.QUEUED, RunStatus.COMPLETED}
        assert harness.slots_in_use == 0
        await harness.advance(minutes=1)
        assert len(begun) == at_pause
        await app.aresume(work)
        await harness.settled()
        assert {await run.astatus() for run in runs} <= {RunStatus.SKIPPED, RunStatus.COMPLETED}


async def test_parallel_steps_that_were_offered_are_held_too(app: TaskFlow) -> None:
    """S10.4, S4.4: a step that waits for a slot of any process is one of the run's steps."""
    gates = Gates()

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> list[str]:
        return list(await asyncio.gather(*[step.run(name, gates.hold, name) for name in "abcd"]))

    async with Harness(app, concurrency=2) as harness:
        run = await work.ainvoke()
        await until(lambda: len(gates.started) == 2, description="as many steps as slots")
        await app.apause(work)
        for name in tuple(gates.started):
            await gates.open(name)
        await harness.settled()
        assert len(gates.started) == 2
        await app.aresume(work)
        for name in "abcd":
            gates.gate(name).set()
        assert await run.aresult("5s") == ["a", "b", "c", "d"]
        await harness.settled()
    assert sorted(gates.started) == ["a", "b", "c", "d"]


async def test_a_process_that_missed_the_message_stops_after_its_reconnection(app: TaskFlow) -> None:
    """S10.4: messages are lost with a connection; the store knows which functions are paused."""
    gates = Gates()

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> None:
        await step.run("first", gates.hold, "first")
        await step.run("second", gates.hold, "second")

    async with Harness(app) as harness:
        (process,) = harness.workers
        channel = harness.store.keys.pauses_channel(app.id)
        process.subscriber.unlisten(channel, process.executor.take_pause)
        run = await work.ainvoke()
        await until(lambda: gates.started == ["first"], description="the first step")
        await app.apause(work)
        process.executor.look_again()
        await until(
            lambda: process.executor.executions[run.id].lifecycle.ending, description="it is told to stop"
        )
        await gates.open("first")
        await until(lambda: status_is(run, RunStatus.QUEUED), description="the run is handed back")
        assert gates.started == ["first"]
        await run.acancel()


async def test_a_run_that_is_cancelled_while_its_last_step_ends_is_not_held(app: TaskFlow) -> None:
    """S10.4, S6.2: it would be cancelled only when the function is resumed, perhaps never."""
    gates = Gates()

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> None:
        await step.run("hold", gates.hold, "hold")
        await step.sleep("nap", "1h")

    async with Harness(app) as harness:
        run = await work.ainvoke()
        await until(lambda: gates.started == ["hold"], description="the step")
        await app.apause(work)
        (process,) = harness.workers
        await until(
            lambda: process.executor.executions[run.id].lifecycle.ending, description="it is told to stop"
        )
        await run.acancel("no longer wanted")
        await gates.open("hold")
        await harness.settled()
        assert await run.astatus() is RunStatus.CANCELLED


async def test_a_parallel_step_that_gets_its_slot_meanwhile_does_not_begin(app: TaskFlow) -> None:
    """S10.4, S4.4: it waited for one while another branch executes, whose end the run still waits for."""
    gates = Gates()

    @app.function()
    async def busy(ctx: Context[Step], step: Step) -> None:
        await step.run("busy", gates.hold, "busy")

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> list[str]:
        return list(await asyncio.gather(*[step.run(name, gates.hold, name) for name in ("left", "right")]))

    async with Harness(app, concurrency=2) as harness:
        blocker = await busy.ainvoke()
        await until(lambda: "busy" in gates.started, description="one slot is taken")
        run = await work.ainvoke()
        await until(lambda: "left" in gates.started, description="and the other one")
        await app.apause(work)
        (process,) = harness.workers
        await until(
            lambda: process.executor.executions[run.id].lifecycle.ending, description="it is told to stop"
        )
        await gates.open("busy")
        await blocker.aresult("2s")
        await until(lambda: process.executor.slots.free == 1, description="a slot is free")
        await gates.open("left")
        await harness.settled()
        assert gates.started == ["busy", "left"]
        await app.aresume(work)
        await gates.open("right")
        assert await run.aresult("2s") == ["left", "right"]
    assert gates.started == ["busy", "left", "right"]


async def test_live_runs_are_cancelled_if_asked_for(app: TaskFlow) -> None:
    """S10.4: a sleeping one at once, one that executes after its step."""
    gates = Gates()

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> None:
        if ctx.event.data.get("hold"):
            await step.run("hold", gates.hold, "hold")
        await step.sleep("nap", "1d")

    async with Harness(app) as harness:
        sleeping = await harness.start(work)
        executing = await work.ainvoke({"hold": True})
        await until(lambda: gates.started == ["hold"], description="the step")
        assert await app.apause(work, cancel_running=True) == 2
        assert await sleeping.astatus() is RunStatus.CANCELLED
        await gates.open("hold")
        await until(lambda: status_is(executing, RunStatus.CANCELLED), description="its end")
        assert (await view(harness, executing)).why == "cancelled: its function was paused"


@pytest.mark.parametrize("seed", range(4))
async def test_runs_that_are_paused_again_and_again_all_complete(app: TaskFlow, seed: int) -> None:
    """S10.4, S4.1: whatever they are at; no step begins during a pause, and none is executed twice."""
    random = Random(seed)
    runs = 40
    pause_at = random.sample(range(1, 4 * runs), 20)  # how many steps have begun then
    pauses: list[asyncio.Task[int]] = []
    did: list[tuple[int, int]] = []

    async def do(number: int, place: int) -> None:
        did.append((number, place))
        if len(did) in pause_at:
            pauses.append(asyncio.create_task(app.apause(work)))
        await asyncio.sleep(0)

    limit = Concurrency(3, key="event.data.n % 2 == 0 ? 'even' : 'odd'") if seed % 2 else None

    @app.function(trigger="order", concurrency=limit)
    async def work(ctx: Context[Step], step: Step) -> None:
        number = ctx.event.data["n"]
        await step.sleep("nap", random.randint(1, 20))
        await step.run("first", do, number, 0)
        await asyncio.gather(step.run("left", do, number, 1), step.run("right", do, number, 2))
        await step.sleep("another nap", random.randint(1, 20))
        await step.run("last", do, number, 3)

    async with Harness(app, workers=2, concurrency=4) as harness:
        await harness.send([Event("order", {"n": number}) for number in range(runs)])
        for _ in range(60):
            await harness.advance(seconds=2)
            await asyncio.gather(*pauses)
            await harness.settled()
            if await harness.store.steering.paused():
                # The processes hear of the pause by a message, which may still be on its way.
                await until(lambda: harness.slots_in_use == 0, description="free slots")
                before = len(did)
                await harness.advance(seconds=2)
                assert len(did) == before
                await app.aresume(work)
                await harness.settled()
        assert [await run.astatus() for run in await harness.runs(work)] == [RunStatus.COMPLETED] * runs
    assert len(pauses) == 20
    assert len(did) == len(set(did)) == 4 * runs
