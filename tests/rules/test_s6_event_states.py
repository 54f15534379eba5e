"""S6.1, S6.2: events cancel runs whatever these do at that moment, and leave nothing of them."""

from __future__ import annotations

import asyncio

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import RunCancelled
from taskflow.event import Event
from taskflow.flow.cancel import Cancel
from taskflow.flow.concurrency import Concurrency
from taskflow.flow.debounce import Debounce
from taskflow.retries import Retries
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.rules.endings import nothing_is_left_of, watch
from tests.rules.test_s6_events import napper, statuses
from tests.waiting import until

CANCELLED, WAITING, COMPLETED = RunStatus.CANCELLED, RunStatus.WAITING, RunStatus.COMPLETED


async def test_a_queued_run_is_cancelled_at_once_though_its_limit_is_reached(app: TaskFlow) -> None:
    """S6.2, S7.1: the run behind it takes its turn."""
    told = watch(app)
    gate = asyncio.Event()
    started: list[int] = []

    @app.function(
        trigger="made",
        concurrency=Concurrency(1, key="event.data.user"),
        cancel=Cancel("undone", match="data.order"),
    )
    async def work(ctx: Context[Step], step: Step) -> None:
        started.append(ctx.event.data["order"])
        await step.run("work", gate.wait)

    async with Harness(app) as harness:
        ids = [(await app.asend("made", {"order": n, "user": "ann"}))[0] for n in range(3)]
        await until(lambda: started, description="the first run")
        runs = [await harness.run_of(work, event_id) for event_id in ids]
        await until(lambda: runs[2].astatus(), description="all to be routed")
        await app.asend("undone", {"order": 1})
        with pytest.raises(RunCancelled):
            await runs[1].aresult("3s")
        await nothing_is_left_of(harness, runs[1])
        gate.set()
        await harness.settled()
        assert await statuses(*runs) == [COMPLETED, CANCELLED, COMPLETED]
    assert started == [0, 2]
    assert [data["run_id"] for data in told] == [runs[1].id]


async def test_a_scheduled_run_is_cancelled_at_once(app: TaskFlow) -> None:
    """S6.2, S1.4"""
    nap = napper(app, Cancel("undone", match="data.order"))
    async with Harness(app) as harness:
        (event_id,) = await harness.send("made", {"order": 1}, ts=harness.clock.now_ms() + 60_000)
        run = await harness.run_of(nap, event_id)
        assert await run.astatus() is RunStatus.SCHEDULED
        await harness.send("undone", {"order": 1})
        assert await run.astatus() is CANCELLED
        await nothing_is_left_of(harness, run)


async def test_a_running_run_is_cancelled_after_its_step(app: TaskFlow) -> None:
    """S6.2: the memo of the step is stored."""
    entered, gate = asyncio.Event(), asyncio.Event()

    async def charge() -> str:
        entered.set()
        await gate.wait()
        return "charged"

    @app.function(trigger="made", cancel=Cancel("undone"))
    async def work(ctx: Context[Step], step: Step) -> None:
        await step.run("charge", charge)
        await step.run("next", charge)

    async with Harness(app) as harness:
        (event_id,) = await app.asend("made")
        await entered.wait()
        run = await harness.run_of(work, event_id)
        (undone,) = await app.asend("undone")
        key = harness.store.keys.run(run.id)
        await until(lambda: harness.store.client.call("HEXISTS", key, "cancel"), description="the request")
        assert await run.astatus() is RunStatus.RUNNING
        assert (await harness.store.history.event(undone))[f"cancel:{run.id}"] == b"requested"
        gate.set()
        with pytest.raises(RunCancelled, match="event undone came"):
            await run.aresult("3s")
        await harness.settled()
        view = await harness.view(run)
        assert (view.steps["charge"].output, "next" in view.steps) == ("charged", False)
        await nothing_is_left_of(harness, run)


async def test_a_run_that_waits_for_the_event_that_cancels_it_is_cancelled(app: TaskFlow) -> None:
    """S6.1: whichever of the two the event finds first."""

    @app.function(trigger="made", cancel=Cancel("undone"))
    async def work(ctx: Context[Step], step: Step) -> None:
        await step.wait_for_event("undone", "undone", timeout="1h")
        await step.sleep("nap", "1h")

    async with Harness(app) as harness:
        ids = await harness.send([Event("made") for _ in range(10)])
        runs = [await harness.run_of(work, event_id) for event_id in ids]
        await harness.send("undone")
        assert set(await statuses(*runs)) == {CANCELLED}


@pytest.mark.parametrize("ending", ["completed", "failed", "cancelled"])
async def test_a_run_that_has_ended_is_not_in_the_index_any_more(app: TaskFlow, ending: str) -> None:
    """S6.1: also one that ended at its first attempt; what comes later changes nothing."""

    @app.function(
        trigger="made", cancel=[Cancel("undone", match="data.order"), Cancel("un*", if_exp="async.data.order == 1")],
        retries=Retries(0),
    )  # fmt: skip
    async def work(ctx: Context[Step], step: Step) -> str:
        if ending == "failed":
            raise ValueError("no")
        if ending == "cancelled":
            await step.sleep("nap", "1h")
        return "done"

    async with Harness(app) as harness:
        (event_id,) = await harness.send("made", {"order": 1})
        run = await harness.run_of(work, event_id)
        if ending == "cancelled":
            await run.acancel()
        await nothing_is_left_of(harness, run)
        (undone,) = await harness.send("undone", {"order": 1})
        assert await run.astatus() == ending
        assert f"cancel:{run.id}" not in await harness.store.history.event(undone)


async def test_a_debounced_run_is_cancelled_by_what_its_last_event_says(app: TaskFlow) -> None:
    """S6.1, S7.5: its event is the last one of the window."""

    @app.function(
        trigger="made",
        debounce=Debounce("10s", key="event.data.user"),
        cancel=Cancel("undone", match="data.order"),
    )
    async def work(ctx: Context[Step], step: Step) -> int:
        return int(ctx.event.data["order"])

    async with Harness(app) as harness:
        for user, order in (("ann", 1), ("ann", 2), ("bob", 3), ("bob", 4)):
            await harness.send("made", {"user": user, "order": order})
        for order in (1, 4):
            await harness.send("undone", {"order": order})
        await harness.advance(seconds=10)
        ann, bob = await harness.runs(work)
        assert await statuses(ann, bob) == [COMPLETED, CANCELLED]
        assert await ann.aresult("1s") == 2
        await harness.send("made", {"user": "bob", "order": 5})
        await harness.advance(seconds=10)
        assert await (await harness.runs(work))[-1].aresult("1s") == 5, "the window was given up"


async def test_a_rerun_can_be_cancelled_by_events_again(app: TaskFlow) -> None:
    """S6.1, S10.3"""
    nap = napper(app, Cancel("undone", match="data.order"))
    async with Harness(app) as harness:
        (event_id,) = await harness.send("made", {"order": 1})
        await harness.send("undone", {"order": 1})
        again = await app.arerun((await harness.run_of(nap, event_id)).id)
        await harness.settled()
        assert await again.astatus() is WAITING
        await harness.send("undone", {"order": 1})
        assert await again.astatus() is CANCELLED
        await nothing_is_left_of(harness, again)
