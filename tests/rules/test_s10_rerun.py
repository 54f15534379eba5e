"""S10.3: running a run anew; from one of its steps: test_s10_rerun_steps.py."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.connected_app import LazyConnections
from taskflow.context import Context
from taskflow.errors import InvalidEvent, RerunRefused, RunNotFound, RunSkipped, StepError
from taskflow.flow.batch import Batch
from taskflow.flow.rate_limit import RateLimit
from taskflow.flow.singleton import Singleton
from taskflow.run import Run, RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.conftest import MakeApp
from tests.rules.shop import Shop
from tests.rules.views import view

# --- from the start ---


async def test_a_failed_run_is_made_anew_with_the_same_event(app: TaskFlow) -> None:
    """S10.3: by a new run, which has nothing of the first one's memos; the first one stays as it was."""
    shop = Shop(app)
    async with Harness(app) as harness:
        failed = await shop.failed_run(harness, sku="A7")
        rerun = await app.arerun(failed.id)
        assert rerun.id != failed.id
        assert await rerun.aresult("2s") == ["A7", "paid", "ship"]
        assert shop.did == ["reserve", "charge", "ship"]
        assert await failed.astatus() is RunStatus.FAILED
        first, second = await view(harness, failed), await view(harness, rerun)
        assert second.event == first.event
        assert (second.cause, second.rerun_of, second.replay_id) == ("rerun", failed.id, None)
        assert (first.cause, first.rerun_by, first.rerun_of) == ("event", rerun.id, None)


async def test_a_run_that_completed_can_be_made_anew(app: TaskFlow) -> None:
    """S10.3: as often as one likes; each is told which one came last."""
    shop = Shop(app)
    shop.is_broken = False
    async with Harness(app) as harness:
        run = await harness.start(shop.fulfil, {"sku": "A7"})
        first = await app.arerun(run.id)
        second = await app.arerun(run.id)
        again = await until_done(first, second)
        assert again == [["A7", "paid", "ship"]] * 2
        assert (await view(harness, run)).rerun_by == second.id


async def until_done(*runs: Run) -> list[Any]:
    return [await run.aresult("2s") for run in runs]


async def test_a_cancelled_run_can_be_made_anew(app: TaskFlow) -> None:
    """S10.3"""

    @app.function()
    async def nap(ctx: Context[Step], step: Step) -> str:
        await step.sleep("nap", "1h")
        return "awake"

    async with Harness(app) as harness:
        run = await harness.start(nap)
        await run.acancel()
        rerun = await app.arerun(run.id)
        await harness.advance(hours=2)
        assert await rerun.aresult("1s") == "awake"
        assert await run.astatus() is RunStatus.CANCELLED


async def test_a_skipped_run_runs_for_the_first_time(app: TaskFlow) -> None:
    """S10.3, S7.4: what picks among events does not apply to who asks by hand."""

    @app.function(trigger="order", rate_limit=RateLimit(1, "1h"))
    async def work(ctx: Context[Step]) -> str:
        return ctx.event.id

    async with Harness(app) as harness:
        await harness.send("order", id="first")
        await harness.send("order", id="second")
        skipped = await harness.run_of(work, "second")
        assert await skipped.astatus() is RunStatus.SKIPPED
        rerun = await app.arerun(skipped.id)
        assert await rerun.aresult("1s") == "second"


async def test_the_data_of_the_event_can_be_edited(app: TaskFlow) -> None:
    """S10.3: the rest of the event stays."""
    shop = Shop(app)
    async with Harness(app) as harness:
        failed = await shop.failed_run(harness, sku="A7")
        rerun = await app.arerun(failed.id, data={"sku": "B8"})
        assert await rerun.aresult("2s") == ["B8", "paid", "ship"]
        first, second = await view(harness, failed), await view(harness, rerun)
        assert second.event == first.event | {"data": {"sku": "B8"}}


async def test_a_batch_is_made_anew_with_all_its_events(app: TaskFlow) -> None:
    """S10.3, S7.6: but not with other data."""

    @app.function(trigger="order", batch_events=Batch(3, "1m"))
    async def work(ctx: Context[Step]) -> list[str]:
        return [event.id for event in ctx.events]

    async with Harness(app) as harness:
        for event_id in "abc":
            await harness.send("order", id=event_id)
        (run,) = await harness.runs(work)
        assert await run.aresult("1s") == ["a", "b", "c"]
        rerun = await app.arerun(run.id)
        assert await rerun.aresult("1s") == ["a", "b", "c"]
        with pytest.raises(RerunRefused, match="is for a batch of events"):
            await app.arerun(run.id, data={"n": 1})


async def test_the_rerun_of_an_invoked_run_answers_nobody(app: TaskFlow) -> None:
    """S10.3, S3.6: its parent has had an answer."""
    shop = Shop(app)

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> str:
        try:
            await step.invoke("child", function=shop.fulfil)
        except StepError as error:
            return error.message
        return "it worked"

    async with Harness(app) as harness:
        run = await harness.start(parent)
        (child,) = await harness.runs(shop.fulfil)
        shop.is_broken = False
        rerun = await app.arerun(child.id)
        assert await rerun.aresult("2s") == ["none", "paid", "ship"]
        told = await view(harness, rerun)
        assert (told.parent, told.cause, told.rerun_of) == (None, "rerun", child.id)
        assert await run.aresult("1s") == "card declined"


async def test_a_rerun_keeps_to_a_singleton(app: TaskFlow) -> None:
    """S10.3, S7.7: what limits how runs live applies to it."""

    @app.function(trigger="order", singleton=Singleton())
    async def work(ctx: Context[Step], step: Step) -> None:
        if ctx.event.data.get("sleep"):
            await step.sleep("nap", "1h")

    async with Harness(app) as harness:
        (first_id,) = await harness.send("order")
        await harness.send("order", {"sleep": True})
        rerun = await app.arerun((await harness.run_of(work, first_id)).id)
        with pytest.raises(RunSkipped, match="singleton"):
            await rerun.aresult("1s")
        await harness.advance(hours=1)


async def test_the_rerun_of_a_paused_function_is_held(app: TaskFlow) -> None:
    """S10.3, S10.4: who asks for it wants it; it is made, and begins when the function is resumed."""
    shop = Shop(app)
    async with Harness(app) as harness:
        failed = await shop.failed_run(harness)
        await app.apause(shop.fulfil)
        rerun = await app.arerun(failed.id)
        await harness.settled()
        assert await rerun.astatus() is RunStatus.QUEUED
        await app.aresume(shop.fulfil)
        assert await rerun.aresult("2s") == ["none", "paid", "ship"]


async def test_a_rerun_tells_the_version_of_the_code_that_runs_now(make_app: MakeApp) -> None:
    """S10.2"""
    app = make_app("shop")
    shop = Shop(app)
    async with Harness(app) as harness:
        failed = await shop.failed_run(harness)
    app._lazy = LazyConnections(dataclasses.replace(app.config, app_version="v2"))
    async with Harness(app) as harness:
        rerun = await app.arerun(failed.id)
        await rerun.aresult("2s")
        assert re.fullmatch("[0-9a-f]{8}", (await view(harness, failed)).version)
        assert (await view(harness, rerun)).version == "v2"


# --- what is refused ---


async def test_a_live_run_is_not_rerun(app: TaskFlow) -> None:
    """S10.3: two of it would do everything twice."""

    @app.function()
    async def nap(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1h")

    async with Harness(app) as harness:
        run = await harness.start(nap)
        with pytest.raises(RerunRefused, match=rf"run {run.id} is waiting.*cancel it first") as caught:
            await app.arerun(run.id)
        assert f"taskflow runs cancel {run.id}" in str(caught.value)
        await run.acancel()
        await (await app.arerun(run.id)).acancel()


async def test_what_makes_no_sense_is_refused(app: TaskFlow) -> None:
    """S10.3: with a reason; and nothing is made."""
    shop = Shop(app)
    async with Harness(app) as harness:
        failed = await shop.failed_run(harness)
        with pytest.raises(RerunRefused, match=r"has no step 'pay': it has 'reserve', 'charge'\."):
            await app.arerun(failed.id, from_step="pay")
        with pytest.raises(RerunRefused, match="give that too"):
            await app.arerun(failed.id, output=1)
        with pytest.raises(InvalidEvent, match="data must be a JSON object"):
            await app.arerun(failed.id, data=[1])  # type: ignore[arg-type]
        with pytest.raises(InvalidEvent, match=r"has [\d,]+ bytes of JSON, but max_event_bytes"):
            await app.arerun(failed.id, data={"text": "x" * 300_000})
        with pytest.raises(RunNotFound, match="there is no run nonsense"):
            await app.arerun("nonsense")
        assert len(await harness.runs(shop.fulfil)) == 1


async def test_sync_code_reruns_too(app: TaskFlow) -> None:
    """S10.3"""
    shop = Shop(app)
    async with Harness(app) as harness:
        failed = await shop.failed_run(harness)
        rerun = await asyncio.to_thread(app.rerun, failed.id, from_step="charge")
        assert await rerun.aresult("2s") == ["none", "paid", "ship"]


# --- what started a run ---


async def test_a_run_keeps_what_started_it(app: TaskFlow) -> None:
    """S10.2: an event, a cron, an invoke, a rerun, a replay; and the version and the worker that executed it."""
    shop = Shop(app)
    shop.is_broken = False
    async with Harness(app) as harness:
        (event_id,) = await harness.send("order")
        by_event = await harness.run_of(shop.fulfil, event_id)
        by_invoke = await harness.start(shop.fulfil)
        by_rerun = await app.arerun(by_event.id)
        await app.areplay(shop.fulfil, since="1h", status=["completed"], if_exp='event.name != "order"')
        await harness.settled()
        runs = {run.id: await view(harness, run) for run in await harness.runs(shop.fulfil)}
        (replayed,) = [told for told in runs.values() if told.rerun_of == by_invoke.id]
        assert [runs[run.id].cause for run in (by_event, by_invoke, by_rerun)] == ["event", "invoke", "rerun"]
        assert replayed.cause == "replay"
        assert all(re.fullmatch(r"harness-\w+:0", told.worker or "") for told in runs.values())
