"""S8.1: crons, and who fires them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from taskflow.app import TaskFlow
from taskflow.beat.leader import Deposed
from taskflow.context import Context
from taskflow.step import Step
from taskflow.store.store import Store
from taskflow.testing import Harness
from taskflow.triggers import Catchup, TriggerCron
from taskflow.values.clock import VirtualClock
from taskflow.worker.child.runner import AppRunner, RunnerOptions
from tests.beat.beats import MINUTE_MS, START_MS, Beats, every_minute
from tests.waiting import until


@pytest.fixture
async def beats(app: TaskFlow) -> AsyncIterator[Beats]:
    store = await Store.open(app.config.store, namespace=app.config.namespace)
    several = Beats(app, store, VirtualClock(START_MS))
    yield several
    for beat in several.all:
        await beat.close()
    await store.close()


# --- S8.1: one leads ---


async def test_a_cron_ticks_once_however_many_beats_run(app: TaskFlow, beats: Beats) -> None:
    """S8.1: one leads, the others stand by."""
    function_id = every_minute(app)
    await beats.register()
    three = [await beats.start() for _ in range(3)]
    for beat in three:
        await beat.run_once()
    assert [beat.leadership.fence is not None for beat in three] == [True, False, False]
    await beats.pass_seconds(190, *three)
    assert await beats.ticks(function_id) == ["00:01:00", "00:02:00", "00:03:00"]
    assert [beat.leadership.fence is not None for beat in three] == [True, False, False]


async def test_the_lead_passes_within_10_s_of_its_death(app: TaskFlow, beats: Beats) -> None:
    """S8.1: and no tick is lost or fired twice."""
    function_id = every_minute(app)
    await beats.register()
    first, second = await beats.start(), await beats.start()
    await beats.pass_seconds(59, first, second)
    await beats.die(first)
    died_ms = beats.clock.now_ms()
    while second.leadership.fence is None:
        await beats.pass_seconds(1, second)
    assert beats.clock.now_ms() - died_ms <= 10_000
    await beats.pass_seconds(60, second)
    assert await beats.ticks(function_id) == ["00:01:00", "00:02:00"]


async def test_a_beat_that_stops_gives_the_lead_away_at_once(app: TaskFlow, beats: Beats) -> None:
    """S8.1"""
    first, second = await beats.start(), await beats.start()
    await first.run_once()
    await beats.pass_seconds(3, second)
    assert second.leadership.fence is None
    beats.all.remove(first)
    await first.close()
    await beats.pass_seconds(3, second)
    assert second.leadership.fence is not None


async def test_a_beat_that_was_paused_while_another_took_over_fires_nothing(
    app: TaskFlow, beats: Beats
) -> None:
    """S8.1, S9.4: its fence is old, even if it still believes that it leads."""
    function_id = every_minute(app)
    await beats.register()
    paused, other = await beats.start(), await beats.start()
    await paused.run_once()
    fence = paused.leadership.fence
    assert fence is not None
    beats.clock.advance(seconds=65)
    await other.run_once()
    assert other.leadership.fence is not None
    assert await beats.ticks(function_id) == ["00:01:00"]
    (schedule,) = paused.crons.schedules.values()
    for tick_ms in (schedule.next_ms, START_MS + 2 * MINUTE_MS):
        with pytest.raises(Deposed):
            await paused.crons.fire(schedule, tick_ms, fence, beats.clock.now_ms())
    assert await beats.ticks(function_id) == ["00:01:00"]
    await beats.pass_seconds(3, paused)
    assert paused.leadership.fence is None


async def test_a_beat_that_leads_anew_knows_the_functions_that_came_meanwhile(
    app: TaskFlow, beats: Beats
) -> None:
    """S8.1: the beat that led meanwhile was told of them, and died."""
    first, second = await beats.start(), await beats.start()
    await first.run_once()
    beats.clock.advance(seconds=15)
    await second.run_once()
    await first.run_once()
    assert (first.leadership.fence is None, second.leadership.fence is None) == (True, False)
    function_id = every_minute(app)
    await beats.register()
    await beats.die(second)
    await beats.pass_seconds(50, first)
    assert await beats.ticks(function_id) == ["00:01:00"]


async def test_the_lead_changes_hands_again_and_again(app: TaskFlow, beats: Beats) -> None:
    """S8.1: three beats that are killed and replaced by turns, for a quarter of an hour; each tick once."""
    function_id = every_minute(app, catchup="all")
    await beats.register()
    draw = random.Random(7)
    for _ in range(3):
        await beats.start()
    for _ in range(15):
        await beats.pass_seconds(60, *beats.all)
        await beats.die(draw.choice(beats.all))
        await beats.start()
    await beats.pass_seconds(30, *beats.all)
    assert await beats.ticks(function_id) == [f"00:{minute:02}:00" for minute in range(1, 16)]


# --- S8.1: after downtime ---


@pytest.mark.parametrize(
    ("catchup", "made_up_for"),
    [
        ("latest", ["01:04:00"]),
        ("none", []),
        ("all", ["01:00:00", "01:01:00", "01:02:00", "01:03:00", "01:04:00"]),
    ],
)
async def test_after_downtime_catchup_says_what_is_fired(
    app: TaskFlow, beats: Beats, catchup: Catchup, made_up_for: list[str]
) -> None:
    """S8.1: the latest missed tick by default; it is made up for once, and then things go on as usual."""
    function_id = every_minute(app, catchup=catchup)
    await beats.register()
    beats.clock.advance(minutes=59, seconds=30)
    first = await beats.start()
    await first.run_once()
    await beats.die(first)
    beats.clock.advance(minutes=5)
    second = await beats.start()
    await second.run_once()
    assert await beats.ticks(function_id) == made_up_for
    await beats.die(second)
    beats.clock.advance(seconds=10)
    third = await beats.start()
    await beats.pass_seconds(40, third)
    assert await beats.ticks(function_id) == [*made_up_for, "01:05:00"]


async def test_a_new_cron_makes_up_for_nothing(app: TaskFlow, beats: Beats) -> None:
    """S8.1: it starts when it is registered."""
    function_id = every_minute(app, catchup="all")
    beats.clock.advance(hours=3)
    beat = await beats.start()
    await beat.run_once()
    beats.clock.advance(hours=1, seconds=30)
    await beats.register()
    beat.crons.functions_changed()
    await beats.pass_seconds(40, beat)
    assert await beats.ticks(function_id) == ["04:01:00"]


@pytest.mark.parametrize(("catchup", "made_up_for"), [("latest", ["00:06:00"]), ("none", [])])
async def test_a_cron_whose_function_was_gone_for_a_while_catches_up_when_it_is_back(
    app: TaskFlow, beats: Beats, catchup: Catchup, made_up_for: list[str]
) -> None:
    """S8.1, S2.7: while no worker had its code it did not tick."""
    function_id = every_minute(app, catchup=catchup)
    await beats.register()
    beat = await beats.start()
    await beats.pass_seconds(70, beat)
    without = TaskFlow(
        app.id, broker=app.config.broker, store=app.config.store, namespace=app.config.namespace
    )

    @without.function
    async def another(ctx: Context[Step]) -> None: ...

    with_cron, beats.app = beats.app, without
    await beats.register()
    beat.crons.functions_changed()
    await beats.pass_seconds(300, beat)
    assert await beats.ticks(function_id) == ["00:01:00"]
    beats.app = with_cron
    await beats.register()
    beat.crons.functions_changed()
    await beats.pass_seconds(60, beat)
    assert await beats.ticks(function_id) == ["00:01:00", *made_up_for, "00:07:00"]


async def test_a_cron_that_is_registered_while_beat_sleeps_wakes_it(app: TaskFlow) -> None:
    """S8.1"""
    seen: list[str] = []
    async with Harness(app) as harness:

        @app.function(trigger=TriggerCron("* * * * *"))
        async def added(ctx: Context[Step]) -> None:
            seen.append(ctx.event.data["scheduled_at"])

        fresh = AppRunner(app, RunnerOptions(), child_id="fresh:0", clock=harness.clock)
        await fresh.start()
        harness.workers.append(fresh)
        await until(lambda: harness.beat.crons.schedules, description="beat to learn of the new cron")
        await harness.advance(seconds=60)
    assert seen == ["2030-01-01T00:01:00+00:00"]


async def test_jitter_delays_each_tick_by_no_more_than_that(app: TaskFlow, beats: Beats) -> None:
    """S2.3, S8.1: another leader draws the same delay, so a tick is neither lost nor doubled by a change of the lead."""

    @app.function(trigger=TriggerCron("* * * * *", jitter="30s"))
    async def jittered(ctx: Context[Step]) -> None: ...

    await beats.register()
    first, second = await beats.start(), await beats.start()
    await first.run_once()
    await second.crons.refresh(beats.clock.now_ms(), first.leadership.fence)  # type: ignore[arg-type]
    plans = [next(iter(beat.crons.schedules.values())) for beat in (first, second)]
    assert plans[0].fire_ms == plans[1].fire_ms
    for _ in range(50):
        plans[1].plan_next(plans[1].next_ms)
        assert 0 <= plans[1].fire_ms - plans[1].next_ms <= 30_000
    beats.clock.advance(minutes=1, seconds=30)
    await first.run_once()
    assert await beats.ticks("shop/jittered") == ["00:01:00"]


async def test_ticks_follow_the_wall_clock_through_both_changes_of_it(app: TaskFlow) -> None:
    """S8.1, S2.3: 02:30 in Berlin does not exist on one day and comes twice on another; it ticks once a day."""
    fired: list[str] = []
    clock = VirtualClock(int(datetime(2030, 3, 30, tzinfo=UTC).timestamp() * 1000))

    @app.function(trigger=TriggerCron("TZ=Europe/Berlin 30 2 * * *"))
    async def nightly(ctx: Context[Step]) -> None:
        fired.append(ctx.event.data["scheduled_at"])

    async with Harness(app, clock=clock) as harness:
        await harness.advance(days=3)
        assert fired == [
            "2030-03-30T01:30:00+00:00",
            "2030-03-31T01:00:00+00:00",  # the clock jumps from 02:00 to 03:00
            "2030-04-01T00:30:00+00:00",
        ]
    fired.clear()
    clock.advance(ms=int(datetime(2030, 10, 26, tzinfo=UTC).timestamp() * 1000) - clock.now_ms())
    async with Harness(app, clock=clock) as harness:
        await harness.settled()
        fired.clear()  # what was missed in summer
        await harness.advance(days=3)
    assert fired == [
        "2030-10-26T00:30:00+00:00",
        "2030-10-27T00:30:00+00:00",  # the first of two
        "2030-10-28T01:30:00+00:00",
    ]
