"""S8.1, S8.3: clocks that are set, and time that passes while nothing can be fired."""

from __future__ import annotations

import pytest

from taskflow import Context, Step, TaskFlow, TriggerCron
from taskflow.triggers import Catchup
from taskflow.values.clock import SystemClock
from tests.beat.beats import START_MS, Beats, SettableClock, every_minute

HOUR_S = 3_600


def set_by(beats: Beats, seconds: float) -> None:
    assert isinstance(beats.clock, SettableClock)
    beats.clock.set_by(seconds)


@pytest.mark.parametrize(
    ("catchup", "made_up_for"),
    [("latest", ["01:00:00"]), ("none", []), ("all", [f"00:{n:02}:00" for n in range(1, 60)] + ["01:00:00"])],
)
async def test_a_beat_that_could_not_turn_for_an_hour_fires_what_catchup_says(
    app: TaskFlow, beats: Beats, catchup: Catchup, made_up_for: list[str]
) -> None:
    """S8.1: the store was away, the machine slept, or its clock was set ahead: to beat it is the same."""
    function_id = every_minute(app, catchup=catchup)
    await beats.register()
    beat = await beats.start()
    await beats.pass_seconds(5, beat)
    set_by(beats, HOUR_S)
    await beat.run_once()
    assert await beats.ticks(function_id) == made_up_for
    await beats.pass_seconds(60, beat)
    assert await beats.ticks(function_id) == [*made_up_for, "01:01:00"]


@pytest.mark.parametrize("catchup", ["latest", "none", "all"])
async def test_ticks_that_are_a_few_seconds_late_were_not_missed(
    app: TaskFlow, beats: Beats, catchup: Catchup
) -> None:
    """S8.1: the lead may take 10 s to pass."""

    @app.function(trigger=TriggerCron("*/2 * * * * *", catchup=catchup))
    async def often(ctx: Context[Step]) -> None: ...

    await beats.register()
    beat = await beats.start()
    await beats.pass_seconds(1, beat)
    set_by(beats, 9)
    await beat.run_once()
    every = ["00:00:02", "00:00:04", "00:00:06", "00:00:08", "00:00:10"]
    assert await beats.ticks(often.id) == every
    await beats.die(beat)
    set_by(beats, 9)
    other = await beats.start()
    await other.run_once()
    assert await beats.ticks(often.id) == [*every, "00:00:12", "00:00:14", "00:00:16", "00:00:18"]


async def test_a_clock_that_is_set_back_does_not_stop_crons(app: TaskFlow, beats: Beats) -> None:
    """S8.1, S8.3: it was an hour ahead and is corrected; a tick that was fired meanwhile is not fired again."""
    function_id = every_minute(app)
    await beats.register()
    set_by(beats, HOUR_S)
    beat = await beats.start()
    await beats.pass_seconds(61, beat)
    assert await beats.ticks(function_id) == ["01:01:00"]
    set_by(beats, -HOUR_S)
    await beats.pass_seconds(118, beat)
    assert await beats.ticks(function_id) == ["00:02:00", "01:01:00"]
    await beats.pass_seconds(59 * 60, beat)
    assert await beats.ticks(function_id) == [
        *[f"00:{n:02}:00" for n in range(2, 60)],
        "01:00:00",
        "01:01:00",
    ]


async def test_a_lead_that_was_taken_by_a_clock_that_was_ahead_passes(app: TaskFlow, beats: Beats) -> None:
    """S8.1"""
    set_by(beats, HOUR_S)
    first, second = await beats.start(), await beats.start()
    await first.run_once()
    await beats.die(first)
    set_by(beats, -HOUR_S)
    await second.run_once()
    assert second.leadership.fence is not None


class HostClock(SystemClock):
    """The clock of a machine: `wall` is what somebody sets, `boot` what nobody can."""

    def __init__(self) -> None:
        self.wall, self.boot = START_MS, 5_000
        super().__init__()

    def wall_ms(self) -> int:
        return self.wall

    def boot_ms(self) -> int:
        return self.boot


@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000, 5_000])
def test_time_goes_on_when_the_machines_clock_is_set(step_ms: int) -> None:
    """S8.3: what was measured against the store stays right."""
    clock = HostClock()
    clock.correct(START_MS + 700, local_now_ms=clock.local_now_ms())
    assert not clock.was_set()
    clock.wall += step_ms + 2_000
    clock.boot += 2_000
    assert clock.now_ms() == START_MS + 2_700
    assert clock.was_set()
    assert clock.now_ms() == START_MS + 2_700
    assert clock.local_now_ms() == START_MS + 2_000 + step_ms
    assert clock.offset_ms == 700 - step_ms
    assert not clock.was_set()


def test_time_passes_while_the_machine_is_suspended() -> None:
    """S8.3: both of its clocks go on."""
    clock = HostClock()
    clock.wall += 3_600_000
    clock.boot += 3_600_000
    assert clock.now_ms() == START_MS + 3_600_000
    assert not clock.was_set()


def test_the_clocks_of_this_machine_agree() -> None:
    clock = SystemClock()
    assert abs(clock.wall_ms() - clock.now_ms()) < 100
    assert not clock.was_set()
