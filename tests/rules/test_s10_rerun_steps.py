"""S10.3: running a run anew from one of its steps."""

from __future__ import annotations

import asyncio
from typing import Any

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.event import Event
from taskflow.run import Run, RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.rules.givens import Gates
from tests.rules.shop import Shop
from tests.rules.views import view
from tests.waiting import until


async def test_steps_before_the_one_named_are_not_executed_again(app: TaskFlow) -> None:
    """S10.3: their memos are taken over, and told as such."""
    shop = Shop(app)
    async with Harness(app) as harness:
        failed = await shop.failed_run(harness, sku="A7")
        rerun = await app.arerun(failed.id, from_step="charge")
        assert await rerun.aresult("2s") == ["A7", "paid", "ship"]
        assert shop.did == ["charge", "ship"]
        steps = (await view(harness, rerun)).steps
        assert [(key, step.is_kept) for key, step in steps.items()] == [
            ("reserve", True),
            ("charge", False),
            ("ship", False),
        ]


async def test_the_outcome_of_the_step_can_be_edited(app: TaskFlow) -> None:
    """S10.3: the run goes on behind it."""
    shop = Shop(app)
    async with Harness(app) as harness:
        failed = await shop.failed_run(harness)
        rerun = await app.arerun(failed.id, from_step="charge", output={"paid": "by hand"})
        assert await rerun.aresult("2s") == ["none", {"paid": "by hand"}, "ship"]
        assert shop.did == ["ship"]
        nothing = await app.arerun(failed.id, from_step="charge", output=None)
        assert await nothing.aresult("2s") == ["none", None, "ship"]


async def test_a_rerun_can_be_rerun_from_a_step_that_it_took_over(app: TaskFlow) -> None:
    """S10.3"""
    shop = Shop(app)
    async with Harness(app) as harness:
        failed = await shop.failed_run(harness)
        first = await app.arerun(failed.id, from_step="charge", output="by hand")
        await first.aresult("2s")
        shop.did.clear()
        second = await app.arerun(first.id, from_step="ship")
        assert await second.aresult("2s") == ["none", "by hand", "ship"]
        assert shop.did == ["ship"]
        third = await app.arerun(second.id, from_step="charge")
        assert await third.aresult("2s") == ["none", "paid", "ship"]


async def test_calls_of_one_id_are_told_apart(app: TaskFlow) -> None:
    """S10.3, S3.8: `item#2` is the third."""
    did: list[int] = []

    def do(number: int) -> int:
        did.append(number)
        return number

    @app.function()
    async def loop(ctx: Context[Step], step: Step) -> list[int]:
        return [await step.run("item", do, number) for number in range(4)]

    async with Harness(app) as harness:
        run = await harness.start(loop)
        did.clear()
        rerun = await app.arerun(run.id, from_step="item#2")
        assert await rerun.aresult("2s") == [0, 1, 2, 3]
        assert did == [2, 3]


async def test_only_what_ended_before_the_step_is_taken_over(app: TaskFlow) -> None:
    """S10.3: of parallel branches those steps whose outcomes the handler had by then; what came later may follow from it."""
    gates = Gates()

    @app.function()
    async def fork(ctx: Context[Step], step: Step) -> list[list[str]]:
        async def branch(first: str, second: str) -> list[str]:
            return [await step.run(first, gates.hold, first), await step.run(second, gates.hold, second)]

        return list(await asyncio.gather(branch("a1", "a2"), branch("b1", "b2")))

    async with Harness(app) as harness:
        run = await fork.ainvoke()
        for name in (
            "b1",
            "b2",
            "a1",
            "a2",
        ):  # the whole second branch ends before the first step of the first one
            await gates.open(name)
            await until(lambda: has_ended(harness, run, name), description=f"{name} is stored")  # noqa: B023
        assert await run.aresult("2s") == [["a1", "a2"], ["b1", "b2"]]
        gates.started.clear()
        rerun = await app.arerun(run.id, from_step="a1")
        assert await rerun.aresult("2s") == [["a1", "a2"], ["b1", "b2"]]
        assert gates.started == ["a1", "a2"]
        gates.started.clear()
        rerun = await app.arerun(run.id, from_step="b2")
        assert await rerun.aresult("2s") == [["a1", "a2"], ["b1", "b2"]]
        assert sorted(gates.started) == ["a1", "a2", "b2"]


async def has_ended(harness: Harness, run: Run, key: str) -> bool:
    step = (await view(harness, run)).steps.get(key)
    return step is not None and step.state == "done"


async def test_what_was_pending_is_not_taken_over(app: TaskFlow) -> None:
    """S10.3: a run that was cancelled while it waited, waits anew."""
    did: list[str] = []

    @app.function()
    async def work(ctx: Context[Step], step: Step) -> Any:
        await step.run("before", lambda: did.append("before"))
        paid = await step.wait_for_event("paid", "paid", "1h")
        await step.run("after", lambda: did.append("after"))
        return None if paid is None else paid.data

    async with Harness(app) as harness:
        run = await harness.start(work)
        await run.acancel()
        rerun = await app.arerun(run.id, from_step="paid")
        await harness.settled()
        assert await rerun.astatus() is RunStatus.WAITING
        await harness.send("paid", {"n": 1})
        assert await rerun.aresult("1s") == {"n": 1}
        timed_out = await app.arerun(run.id, from_step="paid", output=None)
        assert await timed_out.aresult("1s") is None
    assert did == ["before", "after", "after"]


async def test_a_sleep_can_be_cut_short(app: TaskFlow) -> None:
    """S10.3: `output=None` of a sleep: its time is over."""

    @app.function()
    async def nap(ctx: Context[Step], step: Step) -> str:
        await step.sleep("nap", "30d")
        return "awake"

    async with Harness(app) as harness:
        run = await harness.start(nap)
        await run.acancel()
        rerun = await app.arerun(run.id, from_step="nap", output=None)
        assert await rerun.aresult("1s") == "awake"


async def test_events_of_a_step_are_sent_again_by_a_rerun(app: TaskFlow) -> None:
    """S10.3, S3.5: they are the rerun's own, with other ids."""
    got: list[str] = []

    @app.function(trigger="told")
    async def listen(ctx: Context[Step]) -> None:
        got.append(ctx.event.id)

    @app.function()
    async def tell(ctx: Context[Step], step: Step) -> None:
        await step.send_event("tell", Event("told"))

    async with Harness(app) as harness:
        run = await harness.start(tell)
        await (await app.arerun(run.id)).aresult("2s")
        await harness.settled()
    assert len(set(got)) == len(got) == 2
