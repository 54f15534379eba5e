"""Cron ticks, as pure functions of time. Rules S2.3 and S8.1.

A cron is read on the wall clock of its time zone. Where that clock is changed:

- A cron that names hours ("30 2 * * *", "0 9-17 * * *", "0 */2 * * *") has each of its ticks once. A tick in
  the hour that is skipped in spring comes at the moment of the change. A tick in the hour that is repeated in
  autumn comes the first time only.
- A cron for every hour ("*/5 * * * *", "0 * * * *") means an interval, and so follows the time that really
  passes: it has no tick in the skipped hour, and goes on ticking through the repeated one.

If there are six fields, the second comes first. Ticks are whole seconds. In this module `utc_s` is a moment in seconds since the
epoch, and `wall_s` is the reading of a wall clock at that moment: the seconds since its own 1970-01-01 00:00.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from taskflow.triggers import CronSchedule, parse_cron
from taskflow.values.record import record

ONE_SECOND = timedelta(seconds=1)
HOURS_FIELD = 1
# No wall clock is set back by more than this at once.
LOOK_AROUND_S = 3 * 3_600


def next_tick_ms(cron: str, after_ms: int) -> int:
    """The first tick after `after_ms`; both in ms since the epoch. Raises ConfigError if `cron` is wrong."""
    schedule = parse_cron(cron)
    clock = WallClock(schedule.zone)
    after_s = after_ms // 1000
    ticks = wall_ticks(schedule, clock.highest_wall_s(after_s))
    wall_s = next_wall_s(ticks)
    if not is_every_hour(ticks):
        return clock.first_s(wall_s) * 1000
    if (skipped := clock.skipped(wall_s)) is not None:
        wall_s = next_wall_s(wall_ticks(schedule, skipped.end_wall_s - 1))
    tick_s = clock.first_s(wall_s)
    return (next_repeated_s(schedule, clock, after_s, tick_s) or tick_s) * 1000


def latest_tick_ms(cron: str, before_ms: int) -> int:
    """The last tick up to `before_ms`; both in ms since the epoch. Raises ConfigError if `cron` is wrong."""
    schedule = parse_cron(cron)
    clock = WallClock(schedule.zone)
    before_s = before_ms // 1000
    ticks = wall_ticks(schedule, clock.highest_wall_s(before_s) + 1)
    wall_s = previous_wall_s(ticks)
    if not is_every_hour(ticks):
        return clock.first_s(wall_s) * 1000
    if (skipped := clock.skipped(wall_s)) is not None:
        wall_s = previous_wall_s(wall_ticks(schedule, skipped.begin_wall_s))
    tick_s = clock.first_s(wall_s)
    return (latest_repeated_s(schedule, clock, tick_s, before_s) or tick_s) * 1000


def missed_ticks(cron: str, after_ms: int, until_ms: int, limit: int) -> list[int]:
    """The ticks after `after_ms`, up to and including `until_ms`: the oldest `limit` of them, in order."""
    ticks: list[int] = []
    tick_ms = after_ms
    while len(ticks) < limit and (tick_ms := next_tick_ms(cron, tick_ms)) <= until_ms:
        ticks.append(tick_ms)
    return ticks


@record
class Skipped:
    """The readings that a wall clock never shows since it is set forward: from `begin_wall_s` until before `end_wall_s`."""

    begin_wall_s: int
    end_wall_s: int
    change_s: int


class WallClock:
    """The wall clock of a time zone: converts between moments and its readings."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def offset_s(self, utc_s: int) -> int:
        """How many seconds the wall clock is ahead of UTC at `utc_s`."""
        return seconds_ahead(datetime.fromtimestamp(utc_s, self._zone))

    def highest_wall_s(self, utc_s: int) -> int:
        """The latest reading that the clock has shown until `utc_s`: its present one, or the one from which it was set back."""
        moment = datetime.fromtimestamp(utc_s, self._zone)
        offset_s = seconds_ahead(moment)
        if not moment.fold:
            return utc_s + offset_s
        earlier_offset_s = seconds_ahead(moment.replace(fold=0))
        return self.change_s(utc_s - (earlier_offset_s - offset_s), utc_s) + earlier_offset_s - 1

    def readings(self, wall_s: int) -> tuple[int, int]:
        """The moments that `wall_s` means: by the offset before and by the offset after a change of the clock near it."""
        moment = datetime.fromtimestamp(wall_s, UTC).replace(tzinfo=self._zone)
        return wall_s - seconds_ahead(moment), wall_s - seconds_ahead(moment.replace(fold=1))

    def first_s(self, wall_s: int) -> int:
        """The moment when the clock first shows `wall_s`, or is set forward past it."""
        before_s, after_s = self.readings(wall_s)
        return before_s if before_s <= after_s else self.change_s(after_s, before_s)

    def skipped(self, wall_s: int) -> Skipped | None:
        """The skipped stretch that `wall_s` lies in, or None."""
        before_s, after_s = self.readings(wall_s)
        if before_s <= after_s:
            return None
        change_s = self.change_s(after_s, before_s)
        return Skipped(change_s + wall_s - before_s, change_s + wall_s - after_s, change_s)

    def change_s(self, low_s: int, high_s: int) -> int:
        """The first moment after `low_s` that has the offset of `high_s`."""
        offset_s = self.offset_s(high_s)
        while high_s - low_s > 1:
            middle_s = (low_s + high_s) // 2
            if self.offset_s(middle_s) == offset_s:
                high_s = middle_s
            else:
                low_s = middle_s
        return high_s


def next_repeated_s(schedule: CronSchedule, clock: WallClock, after_s: int, until_s: int) -> int | None:
    """The first tick between `after_s` and `until_s` whose reading the clock shows for the second time.

    `until_s` is the next tick after `after_s` with a reading that is shown for the first time. So all readings between the two were
    shown before `after_s`, and the change of the clock is not far from it.
    """
    offset_s = clock.offset_s(after_s + LOOK_AROUND_S)
    if clock.offset_s(after_s - LOOK_AROUND_S) <= offset_s:
        return None
    ticks = wall_ticks(schedule, after_s + offset_s)
    while (tick_s := (wall_s := next_wall_s(ticks)) - offset_s) < until_s:
        if clock.first_s(wall_s) < tick_s == clock.readings(wall_s)[1]:
            return tick_s
    return None


def latest_repeated_s(schedule: CronSchedule, clock: WallClock, after_s: int, until_s: int) -> int | None:
    """The last tick after `after_s`, up to `until_s`, whose reading the clock shows for the second time.

    `after_s` is the latest tick until `until_s` with a reading that is shown for the first time, so the change of the clock is not
    far from it.
    """
    offset_s = clock.offset_s(after_s + LOOK_AROUND_S)
    if clock.offset_s(after_s - LOOK_AROUND_S) <= offset_s:
        return None
    ticks = wall_ticks(schedule, min(until_s, after_s + LOOK_AROUND_S) + offset_s + 1)
    while (tick_s := (wall_s := previous_wall_s(ticks)) - offset_s) > after_s:
        if clock.first_s(wall_s) < tick_s == clock.readings(wall_s)[1]:
            return tick_s
    return None


def seconds_ahead(moment: datetime) -> int:
    offset = moment.utcoffset()
    return 0 if offset is None else offset // ONE_SECOND


def wall_ticks(schedule: CronSchedule, start_wall_s: int) -> Any:
    """croniter's iterator from `start_wall_s` (exclusive), in both directions.

    croniter is told that readings are UTC: this module deals with time zones itself.
    """
    # The import takes 60 ms, which only apps with crons pay.
    from croniter import croniter

    return croniter(schedule.fields, float(start_wall_s), second_at_beginning=True)


def next_wall_s(ticks: Any) -> int:
    wall_s: float = ticks.get_next(float)
    return round(wall_s)


def previous_wall_s(ticks: Any) -> int:
    wall_s: float = ticks.get_prev(float)
    return round(wall_s)


def is_every_hour(ticks: Any) -> bool:
    hours = ticks.expanded[HOURS_FIELD]
    return hours == ["*"] or len(set(hours)) == 24
