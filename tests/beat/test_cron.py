import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskflow.beat.cron import latest_tick_ms, missed_ticks, next_tick_ms
from taskflow.errors import ConfigError

BERLIN = ZoneInfo("Europe/Berlin")  # 2025: 02:00 -> 03:00 on March 30, 03:00 -> 02:00 on October 26
HOUR_MS = 3_600_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def shown(ticks: list[int], zone: ZoneInfo = BERLIN) -> list[str]:
    return [datetime.fromtimestamp(tick / 1000, zone).strftime("%d %H:%M%z") for tick in ticks]


def ticks_of_day(cron: str, day: str, zone: ZoneInfo = BERLIN) -> list[str]:
    begin = datetime.fromisoformat(day).replace(tzinfo=zone)
    end = begin + timedelta(days=1)  # wall clock arithmetic
    begin_ms, end_ms = (int(moment.timestamp() * 1000) for moment in (begin, end))
    return shown(missed_ticks(cron, begin_ms - 1, end_ms - 1, limit=1_000), zone)


@pytest.mark.parametrize(
    ("cron", "after", "tick"),
    [
        ("*/5 * * * *", "2025-01-01T00:00:00Z", "2025-01-01T00:05:00Z"),
        ("*/5 * * * *", "2025-01-01T00:04:59.999Z", "2025-01-01T00:05:00Z"),
        ("*/5 * * * *", "2025-01-01T00:05:00.001Z", "2025-01-01T00:10:00Z"),
        ("30 9 * * mon-fri", "2025-01-03T10:00:00Z", "2025-01-06T09:30:00Z"),
        ("0 0 29 2 *", "2025-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 L * *", "2025-02-01T00:00:00Z", "2025-02-28T00:00:00Z"),
        ("TZ=Europe/Berlin 0 9 * * *", "2025-07-01T00:00:00Z", "2025-07-01T07:00:00Z"),
        ("TZ=Europe/Berlin 0 9 * * *", "2025-01-01T00:00:00Z", "2025-01-01T08:00:00Z"),
        ("TZ=Asia/Kolkata 0 0 * * *", "2025-01-01T00:00:00Z", "2025-01-01T18:30:00Z"),
    ],
)
def test_the_next_tick_comes_after_the_given_time(cron: str, after: str, tick: str) -> None:
    assert next_tick_ms(cron, ms(after)) == ms(tick)


def test_of_six_fields_the_first_is_the_second() -> None:
    assert next_tick_ms("15 30 9 * * *", ms("2025-01-01T00:00:00Z")) == ms("2025-01-01T09:30:15Z")
    assert next_tick_ms("*/10 * * * * *", ms("2025-01-01T00:00:05Z")) == ms("2025-01-01T00:00:10Z")


def test_the_latest_tick_may_be_now() -> None:
    assert latest_tick_ms("*/5 * * * *", ms("2025-01-01T00:05:00Z")) == ms("2025-01-01T00:05:00Z")
    assert latest_tick_ms("*/5 * * * *", ms("2025-01-01T00:04:59.999Z")) == ms("2025-01-01T00:00:00Z")


def test_missed_ticks_are_the_oldest_within_the_limit() -> None:
    begin, end = ms("2025-01-01T00:00:00Z"), ms("2025-01-01T03:00:00Z")
    assert missed_ticks("0 * * * *", begin, end, limit=10) == [begin + n * HOUR_MS for n in (1, 2, 3)]
    assert missed_ticks("0 * * * *", begin, end, limit=2) == [begin + n * HOUR_MS for n in (1, 2)]
    assert missed_ticks("0 * * * *", end, end, limit=10) == []
    assert missed_ticks("0 * * * *", begin, end, limit=0) == []


def test_a_cron_that_is_wrong_is_refused() -> None:
    with pytest.raises(ConfigError):
        next_tick_ms("* * *", 0)


def test_a_tick_in_the_skipped_hour_comes_once_at_the_change() -> None:
    cron = "TZ=Europe/Berlin 30 2 * * *"
    assert ticks_of_day(cron, "2025-03-29") == ["29 02:30+0100"]
    assert ticks_of_day(cron, "2025-03-30") == ["30 03:00+0200"]
    assert ticks_of_day(cron, "2025-03-31") == ["31 02:30+0200"]
    assert ticks_of_day("TZ=Europe/Berlin */20 2,3 * * *", "2025-03-30") == [
        "30 03:00+0200",
        "30 03:20+0200",
        "30 03:40+0200",
    ]


def test_a_tick_in_the_repeated_hour_comes_once_the_first_time() -> None:
    cron = "TZ=Europe/Berlin 30 2 * * *"
    assert ticks_of_day(cron, "2025-10-25") == ["25 02:30+0200"]
    assert ticks_of_day(cron, "2025-10-26") == ["26 02:30+0200"]
    assert ticks_of_day(cron, "2025-10-27") == ["27 02:30+0100"]
    assert ticks_of_day("TZ=Europe/Berlin */30 2,3 * * *", "2025-10-26") == [
        "26 02:00+0200",
        "26 02:30+0200",
        "26 03:00+0100",
        "26 03:30+0100",
    ]


def test_the_latest_tick_within_the_repeated_hour_is_that_of_the_first_time() -> None:
    second_time = ms("2025-10-26T02:15:00+01:00")
    assert shown([latest_tick_ms("TZ=Europe/Berlin */20 2 * * *", second_time)]) == ["26 02:40+0200"]
    assert shown([next_tick_ms("TZ=Europe/Berlin 30 2 * * *", second_time)]) == ["27 02:30+0100"]


@pytest.mark.parametrize(("day", "count"), [("2025-03-29", 24), ("2025-03-30", 23), ("2025-10-26", 25)])
def test_a_cron_for_every_hour_follows_the_time_that_passes(day: str, count: int) -> None:
    begin_ms = int(datetime.fromisoformat(day).replace(tzinfo=BERLIN).timestamp() * 1000)
    for cron, offset_ms in (("0 * * * *", 0), ("7 * * * *", 7 * 60_000)):
        ticks = missed_ticks(
            f"TZ=Europe/Berlin {cron}", begin_ms - 1, begin_ms + count * HOUR_MS - 1, limit=99
        )
        assert ticks == [begin_ms + offset_ms + n * HOUR_MS for n in range(count)]


def test_a_cron_for_every_second_goes_through_both_changes() -> None:
    for change in (
        "2025-03-30T01:00:00Z",
        "2025-10-26T00:00:00Z",
        "2025-10-26T01:00:00Z",
        "2025-10-26T02:00:00Z",
    ):
        begin_ms = ms(change) - 2_000
        expected = [begin_ms + n * 1_000 for n in range(1, 5)]
        assert missed_ticks("TZ=Europe/Berlin * * * * * *", begin_ms, begin_ms + 4_000, limit=9) == expected
        assert latest_tick_ms("TZ=Europe/Berlin * * * * * *", begin_ms + 1_500) == begin_ms + 1_000


def test_an_overlap_at_the_end_of_a_day_is_part_of_it() -> None:
    # 2018-02-18 00:00 in Sao Paulo was set back to 2018-02-17 23:00.
    zone = ZoneInfo("America/Sao_Paulo")
    ticks = missed_ticks(
        "TZ=America/Sao_Paulo 0 * 17 2 *", ms("2018-02-17T12:00:00Z"), ms("2018-03-01T00:00:00Z"), 99
    )
    assert shown(ticks, zone)[-3:] == ["17 22:00-0200", "17 23:00-0200", "17 23:00-0300"]
    assert latest_tick_ms("TZ=America/Sao_Paulo 0 * 17 2 *", ms("2018-03-01T00:00:00Z")) == ticks[-1]


ZONES = {
    "Europe/Berlin": (2025, 3, 30, 2025, 10, 26),
    "America/New_York": (2025, 3, 9, 2025, 11, 2),
    "Australia/Lord_Howe": (2025, 10, 5, 2025, 4, 6),  # by 30 minutes
    "America/Sao_Paulo": (2018, 11, 4, 2018, 2, 18),  # at midnight
    "Asia/Tehran": (2022, 3, 22, 2022, 9, 22),  # at midnight, offset of half an hour
    "UTC": (2025, 3, 30, 2025, 10, 26),
}


def expected_ticks(
    minutes: set[int], hours: set[int], zone: ZoneInfo, begin: datetime, count: int
) -> Iterator[int]:
    """The rules of the module, minute by minute."""
    previous_wall: datetime | None = None
    for minute in range(count):
        moment = begin + timedelta(minutes=minute)
        local = moment.astimezone(zone)
        wall = local.replace(tzinfo=None, fold=0)
        walls = [wall]
        if len(hours) < 24:
            if local.fold:
                walls = []
            elif previous_wall is not None and timedelta(minutes=1) < wall - previous_wall:
                skipped = (wall - previous_wall) // timedelta(minutes=1)
                walls = [previous_wall + timedelta(minutes=n) for n in range(1, skipped)] + [wall]
        if any(each.minute in minutes and each.hour in hours for each in walls):
            yield int(moment.timestamp() * 1000)
        previous_wall = wall


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(ZONES)), st.booleans(), st.integers(0, 2**32))
def test_ticks_around_each_change_are_those_of_the_rules(zone_name: str, is_first: bool, seed: int) -> None:
    rng = random.Random(seed)
    zone, dates = ZoneInfo(zone_name), ZONES[zone_name]
    year, month, day = dates[:3] if is_first else dates[3:]
    minutes = set(rng.sample(range(60), rng.choice((1, 2, 3))))
    hours = rng.choice((set(range(24)), set(rng.sample((0, 1, 2, 3, 23), rng.choice((1, 2, 4))))))
    hours_field = "*" if len(hours) == 24 else ",".join(map(str, hours))
    cron = f"TZ={zone_name} {','.join(map(str, minutes))} {hours_field} * * *"
    begin = datetime(year, month, day, tzinfo=UTC) - timedelta(hours=20)
    begin_ms, count = int(begin.timestamp() * 1000), 40 * 60
    expected = list(expected_ticks(minutes, hours, zone, begin, count))

    assert missed_ticks(cron, begin_ms - 1, begin_ms + (count - 1) * 60_000, limit=count) == expected
    for _ in range(20):
        at_ms = rng.randrange(expected[0], begin_ms + count * 60_000)
        assert latest_tick_ms(cron, at_ms) == max(tick for tick in expected if tick <= at_ms)
