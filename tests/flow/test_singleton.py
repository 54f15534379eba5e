"""S7.7: one live run for each key."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from taskflow import (
    BlockingStep,
    Context,
    Event,
    RateLimit,
    RunCancelled,
    RunSkipped,
    RunStatus,
    Singleton,
    Step,
    StepError,
    TaskFlow,
    Timeouts,
    TriggerCron,
)  # fmt: skip
from taskflow.function import Function
from taskflow.run import Run
from taskflow.testing import Harness
from tests.flow.gauge import Gauge
from tests.flow.routers import Routers, run_of, wire
from tests.rules.givens import Gates
from tests.rules.views import view
from tests.store.scene import CHILD, OTHER
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("no_bugs")

START_MS = 1_893_456_000_000


def sleeper(app: TaskFlow, singleton: Singleton, **options: object) -> Function[..., Any]:
    """A function whose runs live for an hour."""

    @app.function(trigger="sync", singleton=singleton)
    async def sync(ctx: Context[Step], step: Step) -> str:
        await step.sleep("nap", "1h")
        return "synced"

    return sync


async def send_one(harness: Harness, function: Function[..., Any], data: dict[str, object]) -> Run:
    (event_id,) = await harness.send("sync", data)
    return await harness.run_of(function, event_id)


# --- skip ---


async def test_while_one_lives_others_are_skipped_and_say_why(app: TaskFlow) -> None:
    sync = sleeper(app, Singleton("event.data.shop"))
    async with Harness(app) as harness:
        first = await send_one(harness, sync, {"shop": "a"})
        second = await send_one(harness, sync, {"shop": "a"})
        other = await send_one(harness, sync, {"shop": "b"})
        assert await first.astatus() == await other.astatus() == RunStatus.WAITING
        assert (await view(harness, second)).why == f'skipped: singleton: run {first.id} is live for key "a"'
        with pytest.raises(RunSkipped):
            await second.aresult()
        await harness.advance(hours=1)
        assert await first.aresult() == "synced"
        third = await send_one(harness, sync, {"shop": "a"})
        assert await third.astatus() == RunStatus.WAITING
        await harness.advance(hours=1)


@pytest.mark.parametrize("ending", ["completed", "failed", "cancelled", "timed out"])
async def test_every_end_frees_the_key(app: TaskFlow, ending: str) -> None:
    gates = Gates()

    @app.function(trigger="sync", singleton=Singleton(), retries=0, timeouts=Timeouts(finish="1h"))
    async def sync(ctx: Context[Step], step: Step) -> None:
        if ctx.event.data.get("second"):
            return
        if ending in ("cancelled", "timed out"):
            await step.sleep("nap", "2h")
        await step.run("hold", gates.hold, "step")
        if ending == "failed":
            raise ValueError(ending)

    async with Harness(app) as harness:
        (event_id,) = await app.asend("sync")
        first = await find_run(harness, sync, event_id)
        if ending == "timed out":
            await harness.advance(hours=1)
        elif ending == "cancelled":
            await harness.settled()
            await first.acancel()
        else:
            await gates.open("step")
        await harness.settled()
        assert await first.astatus() == ("cancelled" if ending == "timed out" else ending)
        second = await send_one(harness, sync, {"second": True})
        assert await second.astatus() == RunStatus.COMPLETED


async def find_run(harness: Harness, function: Function[..., Any], event_id: str) -> Run:
    async def is_there() -> bool:
        return bool(await harness.runs(function))

    await until(is_there, description="the run")
    return await harness.run_of(function, event_id)


async def test_a_cron_does_not_overlap_with_itself(app: TaskFlow) -> None:
    """The tick that finds its forerunner alive is skipped."""
    started: list[int] = []

    @app.function(trigger=TriggerCron("*/10 * * * *"), singleton=Singleton())
    async def sync(ctx: Context[Step], step: Step) -> None:
        await step.run("note", started.append, app._link.clock.now_ms() - START_MS)
        await step.sleep("nap", "15m")

    async with Harness(app) as harness:
        await harness.advance(minutes=41)
        assert [ms // 60_000 for ms in started] == [10, 30]
        statuses = Counter([await run.astatus() for run in await harness.runs(sync)])
        assert statuses == {"completed": 1, "waiting": 1, "skipped": 2}
        await harness.advance(minutes=5)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "def"])
async def test_an_invoke_whose_run_is_skipped_fails_as_such(app: TaskFlow, is_async: bool) -> None:
    sync = sleeper(app, Singleton())
    calls: list[StepError] = []

    if is_async:

        @app.function(trigger="nightly", id="nightly")
        async def nightly(ctx: Context[Step], step: Step) -> str:
            try:
                await step.invoke("sync", function=sync)
            except StepError as error:
                calls.append(error)
            return "went on"
    else:

        @app.function(trigger="nightly", id="nightly")
        def blocking_nightly(ctx: Context[BlockingStep], step: BlockingStep) -> str:
            try:
                step.invoke("sync", function=sync)
            except StepError as error:
                calls.append(error)
            return "went on"

    async with Harness(app) as harness:
        first = await harness.start(sync)
        (event_id,) = await harness.send("nightly")
        run = await harness.run_of(app.functions["shop/nightly"], event_id)
        assert await run.aresult("5s") == "went on"
        assert calls[0].name == "RunSkipped"
        assert f"was skipped: singleton: run {first.id} is live" in calls[0].message
        await harness.advance(hours=1)


async def test_a_run_whose_worker_crashed_keeps_the_key_until_it_has_ended(valkey_url: str) -> None:
    async with Routers.open(valkey_url, singleton=Singleton()) as routers:
        await routers.route(wire(1))
        await routers.scene.claim_one(CHILD)
        await routers.scene.hand_back(CHILD, crashed=True)
        await routers.route(wire(2))
        claim = (await routers.scene.claim_one(OTHER)).claim
        await routers.route(wire(3))
        assert sorted((await routers.statuses()).values()) == ["running", "skipped", "skipped"]
        await routers.scene.finish(claim, pending=False)
        assert "singleton:shop/work:" not in await routers.scene.keys()
        await routers.route(wire(4))
        assert (await routers.statuses())[run_of(wire(4))] == "queued"


@pytest.mark.parametrize("mode", ["skip", "cancel"])
async def test_a_thousand_events_at_one_time_leave_one_live_run(valkey_url: str, mode: str) -> None:
    async with Routers.open(valkey_url, count=8, singleton=Singleton(mode=mode)) as routers:  # type: ignore[arg-type]
        await routers.route_all([wire(number) for number in range(1_000)])
        ended = "skipped" if mode == "skip" else "cancelled"
        assert Counter((await routers.statuses()).values()) == {"queued": 1, ended: 999}


async def test_a_run_for_later_takes_the_key_when_it_is_due(app: TaskFlow) -> None:
    """S1.4: and is skipped then, when another one lives."""
    sync = sleeper(app, Singleton())
    async with Harness(app) as harness:
        later, too_late = await harness.send(
            [Event("sync", ts=START_MS + minutes * 60_000) for minutes in (5, 70)]
        )
        first = await send_one(harness, sync, {})
        assert await first.astatus() == RunStatus.WAITING
        await harness.advance(minutes=6)
        assert await (await harness.run_of(sync, later)).astatus() == RunStatus.SKIPPED
        await harness.advance(minutes=65)
        assert await first.astatus() == RunStatus.COMPLETED
        assert await (await harness.run_of(sync, too_late)).astatus() == RunStatus.WAITING
        await harness.advance(hours=2)


async def test_an_event_that_is_skipped_uses_nothing_up(valkey_url: str) -> None:
    """Neither the rate limit nor the value of idempotency."""
    async with Routers.open(
        valkey_url, singleton=Singleton(), rate_limit=RateLimit(2, "1h"), idempotency="event.data.order"
    ) as routers:
        first, refused, again = wire(1, order=1), wire(2, order=2), wire(3, order=2)
        await routers.route(first, refused)
        assert (await routers.record(refused)).startswith("skipped: singleton")
        await routers.scene.cancel(run_of(first))
        await routers.route(again)
        assert (await routers.statuses())[run_of(again)] == "queued"


# --- cancel ---


async def test_the_new_run_takes_over_at_once_when_nothing_of_the_living_one_executes(app: TaskFlow) -> None:
    sync = sleeper(app, Singleton(mode="cancel"))
    async with Harness(app) as harness:
        first = await send_one(harness, sync, {})
        second = await send_one(harness, sync, {})
        assert await first.astatus() == RunStatus.CANCELLED
        with pytest.raises(RunCancelled, match=f"run {second.id} of the same singleton has come"):
            await first.aresult()
        assert await second.astatus() == RunStatus.WAITING
        await harness.advance(hours=1)
        assert await second.aresult() == "synced"


async def test_the_new_run_waits_for_the_running_step_and_a_third_replaces_it(app: TaskFlow) -> None:
    """S6.2"""
    gates, gauge = Gates(), Gauge()
    cancelled: list[str] = []

    @app.function(trigger="taskflow/function.cancelled")
    async def watch(ctx: Context[Step]) -> None:
        cancelled.append(ctx.event.data["run_id"])

    async def hold(name: str) -> None:
        async with gauge.inside("key"):
            await gates.hold(name)

    @app.function(trigger="sync", singleton=Singleton(mode="cancel"))
    async def sync(ctx: Context[Step], step: Step) -> str:
        await step.run("hold", hold, ctx.event.data["name"])
        return "synced"

    async with Harness(app, workers=2) as harness:
        first, second, third = [await begin(app, harness, sync, name, gates) for name in ("a", "b", "c")]
        assert await first.astatus() == RunStatus.RUNNING
        assert await second.astatus() == RunStatus.CANCELLED
        assert await third.astatus() == RunStatus.SCHEDULED
        assert (
            await view(harness, third)
        ).why == f"scheduled: after run {first.id}, which is being cancelled"
        await gates.open("a")
        await until(lambda: "c" in gates.started, description="the start of the third")
        assert await first.astatus() == RunStatus.CANCELLED
        await gates.open("c")
        assert await third.aresult("5s") == "synced"
        await harness.settled()
        await harness.advance(minutes=1)
        assert sorted(cancelled) == sorted([first.id, second.id])
        assert gauge.most["key"] == 1


async def begin(
    app: TaskFlow, harness: Harness, function: Function[..., Any], name: str, gates: Gates
) -> Run:
    """Send an event while a step executes, so that the engine does not settle."""
    count = len(await harness.runs(function))
    (event_id,) = await app.asend("sync", {"name": name})

    async def is_there() -> bool:
        return len(await harness.runs(function)) > count

    await until(is_there, description=f"the run of {name}")
    if name == "a":
        await until(lambda: name in gates.started, description="the first step")
    return await harness.run_of(function, event_id)


async def test_a_run_that_waits_for_another_to_end_can_be_cancelled(valkey_url: str) -> None:
    async with Routers.open(valkey_url, singleton=Singleton(mode="cancel")) as routers:
        await routers.route(wire(1))
        claim = (await routers.scene.claim_one()).claim
        await routers.route(wire(2))
        assert await routers.scene.cancel(run_of(wire(2))) == "cancelled"
        await routers.scene.finish(claim, "cancelled", pending=False)
        assert await routers.statuses() == {run_of(wire(1)): "cancelled", run_of(wire(2)): "cancelled"}
        assert "singleton:shop/work:" not in await routers.scene.keys()


async def test_a_live_run_that_crashes_while_it_is_being_cancelled_holds_the_new_one_up(
    valkey_url: str,
) -> None:
    async with Routers.open(valkey_url, singleton=Singleton(mode="cancel")) as routers:
        await routers.route(wire(1))
        await routers.scene.claim_one(CHILD)
        await routers.route(wire(2))
        await routers.scene.hand_back(CHILD, crashed=True)
        reply = await routers.scene.claim(OTHER)
        assert [run.claim.run_id for run in reply.runs] == [run_of(wire(1))]
        assert reply.runs[0].cancel
        await routers.scene.finish(reply.runs[0].claim, "cancelled", pending=False)
        assert (await routers.scene.claim_one(OTHER)).claim.run_id == run_of(wire(2))


@pytest.mark.parametrize("seed", range(3))
async def test_never_two_of_one_key_execute(app: TaskFlow, seed: int) -> None:
    gauge = Gauge()

    @app.function(trigger="sync", singleton=Singleton("event.data.key", mode="cancel"), retries=0)
    async def sync(ctx: Context[Step], step: Step) -> None:
        for number in range(3):
            await step.run(f"part {number}", work, ctx.event.data["key"])

    async def work(key: str) -> None:
        async with gauge.inside(key):
            await asyncio.sleep(0.002)

    async with Harness(app, workers=3, concurrency=5) as harness:
        for _ in range(6):
            await asyncio.gather(*[app.asend("sync", {"key": f"k{n % 4}"}) for n in range(20)])
            await until(lambda: gauge.most.total() > 0, description="a step")
        await harness.settled()
        statuses = Counter([await run.astatus() for run in await harness.runs(sync)])
        assert set(statuses) <= {RunStatus.COMPLETED, RunStatus.CANCELLED}
        assert statuses[RunStatus.COMPLETED] >= 4
        assert statuses.total() == 120
    assert set(gauge.most.values()) == {1}
