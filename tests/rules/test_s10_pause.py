"""S10.4: pausing and resuming a function."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import ConfigError, RunSkipped, StepError
from taskflow.flow.concurrency import Concurrency
from taskflow.flow.debounce import Debounce
from taskflow.flow.throttle import Throttle
from taskflow.function import Function
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from taskflow.triggers import TriggerCron
from tests.conftest import MakeApp
from tests.rules.givens import Gates
from tests.rules.views import view
from tests.waiting import until


def worker(app: TaskFlow) -> tuple[Function[..., Any], list[str]]:
    """A function that one event starts, and a list of what it has done."""
    done: list[str] = []

    @app.function(id="work", trigger="order")
    async def work(ctx: Context[Step], step: Step) -> str:
        await step.run("work", lambda: done.append(ctx.event.id))
        return "done"

    return work, done


# --- what arrives ---


async def test_an_event_that_comes_meanwhile_is_recorded_as_a_skipped_run(app: TaskFlow) -> None:
    """S10.4: and says so; the event says it too."""
    work, done = worker(app)
    async with Harness(app) as harness:
        await app.apause(work)
        (event_id,) = await harness.send("order", id="o1")
        run = await harness.run_of(work, event_id)
        assert await run.astatus() is RunStatus.SKIPPED
        with pytest.raises(RunSkipped, match="was skipped: paused"):
            await run.aresult("1s")
        assert (await view(harness, run)).why == "skipped: paused"
        uid = run.id.rpartition("-")[0]
        record = await harness.store.history.event(uid)
        assert record["fn:shop/work"] == b"skipped: paused"
    assert done == []


async def test_events_start_runs_again_once_it_is_resumed(app: TaskFlow) -> None:
    """S10.4: those that were skipped stay so."""
    work, done = worker(app)
    async with Harness(app) as harness:
        await app.apause(work)
        await harness.send("order", id="o1")
        assert await app.aresume(work) is True
        await harness.send("order", id="o2")
        statuses = [await run.astatus() for run in await harness.runs(work)]
    assert statuses == [RunStatus.SKIPPED, RunStatus.COMPLETED]
    assert done == ["o2"]


async def test_other_functions_of_the_event_are_not_touched(app: TaskFlow) -> None:
    """S10.4"""
    work, done = worker(app)

    @app.function(trigger="order")
    async def other(ctx: Context[Step]) -> str:
        return "other"

    async with Harness(app) as harness:
        await app.apause(work)
        await harness.send("order", id="o1")
        (run,) = await harness.runs(other)
        assert await run.aresult("1s") == "other"
    assert done == []


async def test_a_cron_that_ticks_meanwhile_is_skipped(app: TaskFlow) -> None:
    """S10.4: its tick is not made up for."""

    @app.function(trigger=TriggerCron("0 * * * *"))
    async def hourly(ctx: Context[Step]) -> None: ...

    async with Harness(app) as harness:
        await app.apause(hourly)
        await harness.advance(hours=1)
        await app.aresume(hourly)
        await harness.advance(hours=1)
        runs = await harness.runs(hourly)
        assert [await run.astatus() for run in runs] == [RunStatus.SKIPPED, RunStatus.COMPLETED]
        assert (await harness.view(runs[0])).cause == "cron"


async def test_the_invoke_of_a_paused_function_fails_at_once(app: TaskFlow) -> None:
    """S10.4, S3.6: with `RunSkipped`; nobody waits for a run that is not to be."""
    work, _ = worker(app)

    @app.function()
    async def parent(ctx: Context[Step], step: Step) -> str:
        try:
            await step.invoke("child", function=work)
        except StepError as error:
            return f"{error.name}: {error.message}"
        return "it ran"

    async with Harness(app) as harness:
        await app.apause(work)
        run = await harness.start(parent)
        assert re.fullmatch(r"RunSkipped: run \S+ of shop/work was skipped: paused", await run.aresult("1s"))


async def test_a_run_that_is_invoked_directly_is_skipped(app: TaskFlow) -> None:
    """S10.4"""
    work, _ = worker(app)
    async with Harness(app) as harness:
        await app.apause(work)
        run = await harness.start(work)
        assert await run.astatus() is RunStatus.SKIPPED


# --- with flow control ---


async def test_a_debounce_that_ends_meanwhile_is_held(app: TaskFlow) -> None:
    """S10.4, S7.5"""

    @app.function(trigger="order", debounce=Debounce("1m"))
    async def work(ctx: Context[Step]) -> str:
        return ctx.event.id

    async with Harness(app) as harness:
        await harness.send("order", id="before")
        await app.apause(work)
        await harness.send("order", id="meanwhile")
        await harness.advance(minutes=2)
        statuses = sorted([await run.astatus() for run in await harness.runs(work)])
        assert statuses == [RunStatus.QUEUED, RunStatus.SKIPPED]
        await app.aresume(work)
        await harness.settled()
        first = await harness.run_of(work, "before")
        assert await first.aresult("1s") == "before"


@pytest.mark.parametrize("limit", ["concurrency", "throttle"])
async def test_limited_runs_are_held_and_go_on(app: TaskFlow, limit: str) -> None:
    """S10.4, S7.1, S7.3: they are in lanes, which come back with the function; the limit holds on."""
    done: list[str] = []

    @app.function(
        trigger="order",
        concurrency=Concurrency(1, key="event.data.key") if limit == "concurrency" else None,
        throttle=Throttle(1, "1m", key="event.data.key") if limit == "throttle" else None,
    )
    async def work(ctx: Context[Step], step: Step) -> None:
        await step.run("one", lambda: done.append(ctx.event.id))
        await step.sleep("nap", "10s")

    async with Harness(app) as harness:
        for event_id in ("a1", "a2", "b1", "b2"):
            await harness.send("order", {"key": event_id[0]}, id=event_id)
        before = set(done)
        await app.apause(work)
        await harness.advance(minutes=5)
        assert set(done) == before
        await app.aresume(work)
        await harness.advance(minutes=5)
        assert [await run.astatus() for run in await harness.runs(work)] == [RunStatus.COMPLETED] * 4
    assert sorted(done) == ["a1", "a2", "b1", "b2"]


async def test_room_under_a_shared_limit_goes_to_others(app: TaskFlow) -> None:
    """S10.4, S7.1: what a paused function does not take holds up no other function."""
    gates = Gates()
    shared = Concurrency(1, key="event.data.key", scope="app")

    @app.function(concurrency=shared)
    async def paused(ctx: Context[Step], step: Step) -> str:
        return await step.run("hold", gates.hold, str(ctx.event.data["name"]))

    @app.function(concurrency=shared)
    async def other(ctx: Context[Step], step: Step) -> str:
        return await step.run("hold", gates.hold, "other")

    async with Harness(app) as harness:
        first = await paused.ainvoke({"key": "k", "name": "first"})
        await until(lambda: gates.started == ["first"], description="the limit is reached")
        second = await paused.ainvoke({"key": "k", "name": "second"})
        third = await other.ainvoke({"key": "k"})
        await app.apause(paused)
        await gates.open("first")
        await gates.open("other")
        assert await third.aresult("2s") == "other"
        await harness.settled()
        assert await second.astatus() is RunStatus.QUEUED
        await app.aresume(paused)
        await gates.open("second")
        assert [await run.aresult("2s") for run in (first, second)] == ["first", "second"]


# --- the pause itself ---


async def test_a_deploy_does_not_resume(make_app: MakeApp) -> None:
    """S10.4: neither do workers that start."""
    first = make_app("shop")
    work, done = worker(first)
    async with Harness(first):
        await first.apause(work)
    second = make_app("shop")
    work, done = worker(second)
    async with Harness(second) as harness:
        await harness.send("order", id="o1")
        assert done == []
        assert list(await harness.store.steering.paused()) == ["shop/work"]


async def test_pausing_and_resuming_twice_is_the_same_as_once(app: TaskFlow) -> None:
    """S10.4: the time of the first pause stands."""
    work, _ = worker(app)
    async with Harness(app) as harness:
        await app.apause(work)
        at_ms = harness.clock.now_ms()
        await harness.advance(minutes=1)
        await app.apause("shop/work")
        assert await harness.store.steering.paused() == {"shop/work": at_ms}
        assert await app.aresume("shop/work") is True
        assert await app.aresume(work) is False
        assert await harness.store.steering.paused() == {}


async def test_sync_code_pauses_and_resumes_too(app: TaskFlow) -> None:
    """S10.4"""
    work, _ = worker(app)
    async with Harness(app) as harness:
        assert await asyncio.to_thread(app.pause, work) == 0
        assert await harness.store.steering.paused_since("shop/work") == harness.clock.now_ms()
        assert await asyncio.to_thread(app.resume, work) is True


async def test_a_function_that_nobody_knows_can_not_be_paused(app: TaskFlow) -> None:
    """S10.4: a slip of the pen must not look like a pause."""
    async with Harness(app):
        with pytest.raises(ConfigError, match="there is no function 'shop/wrok'"):
            await app.apause("shop/wrok")
