"""S7.5: one run, with the last event, when events have calmed down."""

from __future__ import annotations

import random

import pytest

from taskflow import Context, Debounce, Event, RunStatus, Singleton, Step, TaskFlow
from taskflow.flow.options import FlowControl
from taskflow.testing import Harness
from tests.flow.routers import Routers, Wire, run_of, wire
from tests.rules.views import view
from tests.store.scene import NOW_MS

pytestmark = pytest.mark.usefixtures("no_bugs")

START_MS = 1_893_456_000_000


def recorder(app: TaskFlow, debounce: Debounce) -> list[tuple[int, int]]:
    """Registers a debounced function; the numbers of the events it ran with, and when (ms since the start)."""
    ran: list[tuple[int, int]] = []

    @app.function(trigger="edited", debounce=debounce)
    async def save(ctx: Context[Step]) -> None:
        ran.append((ctx.event.data["n"], app._link.clock.now_ms() - START_MS))

    return ran


async def test_it_runs_once_with_the_last_event_when_none_came_for_the_period(app: TaskFlow) -> None:
    ran = recorder(app, Debounce("10s"))
    async with Harness(app) as harness:
        for number in range(4):
            await harness.send("edited", {"n": number})
            await harness.advance(seconds=9)
        assert ran == []
        await harness.advance(minutes=1)
        assert ran == [(3, 37_000)]
        await harness.send("edited", {"n": 4})
        await harness.advance(minutes=1)
        assert ran == [(3, 37_000), (4, 106_000)]


async def test_the_timeout_counts_from_the_first_event(app: TaskFlow) -> None:
    ran = recorder(app, Debounce("10s", timeout="25s"))
    async with Harness(app) as harness:
        for number in range(8):
            await harness.send("edited", {"n": number})
            await harness.advance(seconds=5)
        await harness.advance(minutes=1)
        assert ran == [(4, 25_000), (7, 45_000)]


async def test_each_value_is_debounced_by_itself(app: TaskFlow) -> None:
    ran = recorder(app, Debounce("10s", key="event.data.doc"))
    async with Harness(app) as harness:
        await harness.send([Event("edited", {"n": n, "doc": n % 2}) for n in range(4)])
        await harness.send([Event("edited", {"n": 4}), Event("edited", {"n": 5})])
        await harness.advance(seconds=10)
        assert sorted(ran) == [(2, 10_000), (3, 10_000), (5, 10_000)]


async def test_it_gets_events_that_are_duplicates_by_their_id(app: TaskFlow) -> None:
    """S1.3"""
    ran = recorder(app, Debounce("10s"))
    async with Harness(app) as harness:
        await harness.send("edited", {"n": 1}, id="same")
        await harness.send("edited", {"n": 2}, id="same")
        await harness.advance(seconds=10)
        assert ran == [(2, 10_000)]


async def test_a_run_that_waits_says_so_and_its_events_say_what_became_of_them(app: TaskFlow) -> None:
    """S10.5"""
    recorder(app, Debounce("10s"))
    save = app.functions["shop/save"]
    async with Harness(app) as harness:
        (first,) = await harness.send("edited", {"n": 1})
        await harness.advance(seconds=5)
        (second,) = await harness.send("edited", {"n": 2})
        run = await harness.run_of(save, first)
        assert await run.astatus() == RunStatus.SCHEDULED
        assert (await view(harness, run)).why == "scheduled: debounced until 00:00:15"
        records = [
            (await harness.store.history.event(uid))["fn:shop/save"].decode() for uid in (first, second)
        ]
        assert records == [f"debounced: run {run.id} has a later event", run.id]
        await harness.advance(seconds=10)
        assert await run.astatus() == RunStatus.COMPLETED


async def test_a_cancelled_run_ends_its_window(app: TaskFlow) -> None:
    ran = recorder(app, Debounce("10s"))
    async with Harness(app) as harness:
        (event_id,) = await harness.send("edited", {"n": 1})
        assert await (await harness.run_of(app.functions["shop/save"], event_id)).acancel()
        await harness.advance(seconds=5)
        await harness.send("edited", {"n": 2})
        await harness.advance(minutes=1)
        assert ran == [(2, 15_000)]


async def test_a_ts_in_the_future_is_waited_for(app: TaskFlow) -> None:
    """S1.4"""
    ran = recorder(app, Debounce("10s"))
    async with Harness(app) as harness:
        await harness.send("edited", {"n": 1}, ts=START_MS + 60_000)
        await harness.advance(minutes=2)
        assert ran == [(1, 60_000)]


async def test_an_event_that_comes_before_a_late_beat_has_fired_opens_a_new_window(valkey_url: str) -> None:
    async with Routers.open(valkey_url, debounce=Debounce("10s")) as routers:
        first, second = wire(1), wire(2, at_ms=10_000)
        await routers.route(first)
        await routers.route(second, at_ms=10_000)
        assert await routers.statuses() == {run_of(first): "queued", run_of(second): "scheduled"}
        assert await routers.scene.timers() == {f"start {run_of(second)}": 10_000}


async def test_an_event_that_is_routed_late_does_not_take_the_place_of_a_later_one(valkey_url: str) -> None:
    """Its router died; the message came again after others had been routed."""
    async with Routers.open(valkey_url, debounce=Debounce("10s")) as routers:
        early, first, last = wire(1), wire(2, at_ms=5), wire(3, at_ms=6)
        await routers.route(first, last, at_ms=10)
        await routers.route(early, at_ms=5_000)
        assert await routers.batch_of(run_of(first)) == [3]
        assert await routers.record(early) == f"debounced: run {run_of(first)} has a later event"
        assert await routers.scene.timers() == {f"start {run_of(first)}": 10_000}, "but it moves the timer"


async def test_a_command_that_the_network_held_up_does_not_bring_the_start_forward(valkey_url: str) -> None:
    """It says an old time; the other events have not calmed down since."""
    async with Routers.open(valkey_url, debounce=Debounce("10s")) as routers:
        first, second = wire(1), wire(2, at_ms=1)
        await routers.route(first, at_ms=30_000)
        await routers.route(second, at_ms=5_000)
        routers.scene.now_ms = NOW_MS + 30_000
        assert await routers.scene.timers() == {f"start {run_of(first)}": 10_000}


async def test_the_run_has_limits_and_singleton_of_its_last_event(valkey_url: str) -> None:
    options = FlowControl.of(
        debounce=Debounce("10s", key="event.data.doc"),
        concurrency=1,
        singleton=Singleton("event.data.user"),
    )
    async with Routers.open(valkey_url) as routers:
        routers.flow = options
        await routers.route(wire(1, doc="a", user="u1"), wire(2, doc="a", user="u2"))
        await routers.route(wire(3, doc="b", user="u2"), wire(4, doc="b", user="u1"))
        assert await routers.fire(at_ms=10_000) == 2
        assert sorted((await routers.statuses()).values()) == ["queued", "queued"]
        (fields,) = await routers.stores[0].history.many([run_of(wire(1))])
        assert fields["single"] == b'shop/work:"u2"'


@pytest.mark.parametrize("seed", range(5))
async def test_each_window_fires_once_with_its_last_event(valkey_url: str, seed: int) -> None:
    """Eight routers, redelivered events, a beat that fires late, and 20 keys."""
    chance = random.Random(seed)
    period_ms, keys = 10_000, range(20)
    async with Routers.open(
        valkey_url, count=8, debounce=Debounce("10s", key="event.data.key", timeout="25s")
    ) as routers:
        number, expected, now_ms = 0, [], 0
        sent: list[Wire] = []
        open_windows: dict[int, tuple[int, int, int]] = {}  # key -> first, due, number of the last event
        for _ in range(15):
            now_ms += chance.choice([1_000, 4_000, 9_999, 10_000, 11_000])
            events = []
            for key in chance.sample(keys, 8):
                for _ in range(chance.randint(1, 4)):
                    events.append(wire(number, at_ms=now_ms, key=key))
                    number += 1
                first, due, last = open_windows.get(key, (now_ms, now_ms + 1, -1))
                if due <= now_ms:
                    expected.append(last)
                    first = now_ms
                open_windows[key] = (first, min(now_ms + period_ms, first + 25_000), number - 1)
            await routers.route_all(events + chance.sample(sent, len(sent) // 5), at_ms=now_ms, seed=seed)
            sent += events
            if chance.random() < 0.3:
                await routers.fire(at_ms=now_ms)
        expected += [last for _, _, last in open_windows.values()]
        await routers.fire(at_ms=now_ms + 60_000)
        statuses = await routers.statuses()
        assert set(statuses.values()) == {"queued"}
        assert sorted([(await routers.batch_of(run_id))[0] for run_id in statuses]) == sorted(expected)
        assert not [key for key in await routers.scene.keys() if key.startswith(("debounce:", "timers"))]
