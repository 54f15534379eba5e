"""S7.6: one run for many events."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from taskflow import Batch, Context, Event, RunStatus, Step, TaskFlow
from taskflow.testing import Harness
from tests.flow.routers import Routers, run_of, wire
from tests.rules.views import view
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("no_bugs")

START_MS = 1_893_456_000_000


def recorder(app: TaskFlow, batch: Batch) -> list[tuple[list[int], int]]:
    """Registers a batched function; the numbers of the events of each run, and when it ran (ms since the start)."""
    ran: list[tuple[list[int], int]] = []

    @app.function(trigger="viewed", batch_events=batch)
    async def count(ctx: Context[Step]) -> None:
        assert ctx.event == ctx.events[0]
        ran.append(([event.data["n"] for event in ctx.events], app._link.clock.now_ms() - START_MS))

    return ran


def events(*numbers: int, **data: object) -> list[Event]:
    return [Event("viewed", {"n": number, **data}) for number in numbers]


async def test_a_full_batch_starts_at_once_and_the_rest_at_the_timeout(app: TaskFlow) -> None:
    ran = recorder(app, Batch(3, "10s"))
    async with Harness(app) as harness:
        await harness.send(events(*range(7)))
        assert sorted(ran) == [([0, 1, 2], 0), ([3, 4, 5], 0)]
        await harness.advance(seconds=5)
        await harness.send(events(7))
        await harness.advance(minutes=1)
        assert ran[2:] == [([6, 7], 10_000)]


async def test_each_value_has_a_batch_of_its_own(app: TaskFlow) -> None:
    ran = recorder(app, Batch(10, "10s", key="event.data.site"))
    async with Harness(app) as harness:
        await harness.send(events(1, 3, site="a") + events(2, site="b") + events(4) + events(5, site="a"))
        await harness.advance(seconds=10)
        assert sorted(ran) == [([1, 3, 5], 10_000), ([2], 10_000), ([4], 10_000)]


async def test_an_event_that_does_not_meet_if_exp_runs_alone_at_once(app: TaskFlow) -> None:
    ran = recorder(app, Batch(10, "10s", if_exp="event.data.urgent != true"))
    async with Harness(app) as harness:
        await harness.send(events(1, 2, urgent=False) + events(3, urgent=True))
        assert ran == [([3], 0)]
        await harness.advance(seconds=10)
        assert ran == [([3], 0), ([1, 2], 10_000)]


async def test_an_event_for_later_runs_alone_at_its_time(app: TaskFlow) -> None:
    """S1.4: a batch that starts when it is full can't wait for one of its events."""
    ran = recorder(app, Batch(10, "10s"))
    async with Harness(app) as harness:
        await harness.send(Event("viewed", {"n": 1}, ts=START_MS + 5_000))
        await harness.send(events(2))
        await harness.advance(minutes=1)
        assert ran == [([1], 5_000), ([2], 10_000)]


async def test_an_invocation_runs_alone_at_once(app: TaskFlow) -> None:
    ran = recorder(app, Batch(10, "10s"))
    async with Harness(app) as harness:
        await (await harness.start(app.functions["shop/count"], {"n": 1})).aresult()
        assert ran == [([1], 0)]


async def test_it_gets_events_that_are_duplicates_by_their_id(app: TaskFlow) -> None:
    """S1.3"""
    ran = recorder(app, Batch(10, "10s"))
    async with Harness(app) as harness:
        await harness.send([Event("viewed", {"n": n}, id="same") for n in range(3)])
        await harness.advance(seconds=10)
        assert ran == [([0, 1, 2], 10_000)]


async def test_a_batch_that_waits_says_so_and_its_events_lead_to_it(app: TaskFlow) -> None:
    """S10.5"""
    recorder(app, Batch(100, "5s"))
    async with Harness(app) as harness:
        ids = await harness.send(events(*range(7)))
        run = await harness.run_of(app.functions["shop/count"], ids[0])
        assert await run.astatus() == RunStatus.SCHEDULED
        seen = await view(harness, run)
        assert seen.why == "scheduled: batch of 7 of 100, starts at 00:00:05 at the latest"
        assert (seen.batched, seen.event["data"]) == (7, {"n": 0})
        records = [(await harness.store.history.event(uid))["fn:shop/count"].decode() for uid in ids]
        assert records == [run.id] * 7
        await harness.advance(seconds=5)
        assert await run.astatus() == RunStatus.COMPLETED


async def test_all_events_are_there_in_each_replay_and_in_steps_of_other_workers(app: TaskFlow) -> None:
    seen: list[tuple[str, int]] = []

    async def note(what: str, count: int) -> None:
        seen.append((what, count))
        await asyncio.sleep(0.01)

    @app.function(trigger="viewed", batch_events=Batch(3, "10s"))
    async def count(ctx: Context[Step], step: Step) -> int:
        await step.sleep("nap", "1m")
        await step.parallel(
            [partial(step.run, f"part {n}", note, f"part {n}", len(ctx.events)) for n in range(4)]
        )
        return len(ctx.events)

    async with Harness(app, workers=3, concurrency=2) as harness:
        await harness.send(events(1, 2, 3))
        await harness.advance(minutes=1)
        (run, *_) = await harness.runs(count)
        assert await run.aresult("5s") == 3
        assert sorted(seen) == [(f"part {n}", 3) for n in range(4)]


async def test_a_cancelled_batch_gathers_no_more(app: TaskFlow) -> None:
    ran = recorder(app, Batch(10, "10s"))
    async with Harness(app) as harness:
        ids = await harness.send(events(1, 2))
        assert await (await harness.run_of(app.functions["shop/count"], ids[0])).acancel()
        await harness.send(events(3))
        await harness.advance(seconds=10)
        assert ran == [([3], 10_000)]


async def test_its_events_are_removed_with_the_run(app: TaskFlow) -> None:
    """S10.1"""
    recorder(app, Batch(2, "10s"))
    async with Harness(app) as harness:
        ids = await harness.send(events(1, 2))
        run = await harness.run_of(app.functions["shop/count"], ids[0])
        key = harness.store.keys.batch(run.id)
        assert await harness.store.client.call("EXISTS", key) == 1
        await harness.advance(days=2)
        await until(lambda: is_gone(harness, key), description="the end of the retention")


async def is_gone(harness: Harness, key: str) -> bool:
    return not await harness.store.client.call("EXISTS", key)


async def test_a_batch_of_more_than_4_mib_starts_at_once(valkey_url: str) -> None:
    async with Routers.open(valkey_url, batch_events=Batch(100, "10s")) as routers:
        large = [wire(number, text="x" * 1_000_000) for number in range(6)]
        for event in large:
            await routers.route(event)
        assert await routers.statuses() == {run_of(large[0]): "queued", run_of(large[5]): "scheduled"}
        assert await routers.batch_of(run_of(large[0])) == [0, 1, 2, 3, 4]


async def test_a_full_batch_has_the_whole_time_to_be_started(valkey_url: str) -> None:
    """S6.3: `timeouts.start` counts from when it is ready."""
    async with Routers.open(valkey_url, batch_events=Batch(2, "10s")) as routers:
        routers.start_timeout_ms = 60_000
        await routers.route(wire(1))
        start, timeout = f"start {run_of(wire(1))}", f"start_timeout {run_of(wire(1))}"
        assert await routers.scene.timers() == {start: 10_000, timeout: 70_000}
        await routers.route(wire(2), at_ms=5_000)
        assert await routers.scene.timers() == {timeout: 60_000}


async def test_a_full_batch_goes_before_runs_that_are_made_later(valkey_url: str) -> None:
    """S7.2: it is as old as its last event, however long its timeout."""
    async with Routers.open(
        valkey_url, batch_events=Batch(2, "1h", if_exp="event.data.urgent != true")
    ) as routers:
        await routers.route(wire(1, urgent=False), wire(2, urgent=False))
        await routers.route(wire(3, urgent=True), at_ms=1_000)
        assert [(await routers.scene.claim_one()).claim.run_id for _ in range(2)] == [
            run_of(wire(1)),
            run_of(wire(3)),
        ]


async def test_an_event_that_comes_before_a_late_beat_has_fired_opens_a_new_batch(valkey_url: str) -> None:
    async with Routers.open(valkey_url, batch_events=Batch(100, "10s")) as routers:
        await routers.route(wire(1), wire(2))
        await routers.route(wire(3), at_ms=10_000)
        assert await routers.statuses() == {run_of(wire(1)): "queued", run_of(wire(3)): "scheduled"}
        assert await routers.batch_of(run_of(wire(1))) == [1, 2]


@pytest.mark.parametrize("seed", range(3))
async def test_each_event_lands_in_one_batch_once(valkey_url: str, seed: int) -> None:
    """Eight routers, redelivered events, five keys."""
    async with Routers.open(
        valkey_url, count=8, batch_events=Batch(7, "10s", key="event.data.key")
    ) as routers:
        sent = [wire(number, key=number % 5) for number in range(400)]
        for part in range(4):
            await routers.route_all(sent[: 100 * (part + 1)], at_ms=part * 4_000, seed=seed)
            await routers.fire(at_ms=part * 4_000)
        await routers.fire(at_ms=60_000)
        statuses = await routers.statuses()
        assert set(statuses.values()) == {"queued"}
        batches = [await routers.batch_of(run_id) for run_id in statuses]
        assert sorted(number for batch in batches for number in batch) == list(range(400))
        assert all(len({number % 5 for number in batch}) == 1 for batch in batches)
        assert max(map(len, batches)) == 7
        for batch in batches:
            record = await routers.record(sent[batch[-1]])
            assert await routers.batch_of(record) == batch
        assert not [key for key in await routers.scene.keys() if key.startswith(("batching:", "timers"))]
