"""Points in time as people read them."""

from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest

from taskflow.values.times import date_and_time, relative, time_of_day

NOON_MS = 1_893_499_200_000  # 2030-01-01 12:00 UTC


@pytest.mark.parametrize(
    ("distance_ms", "text"),
    [
        (0, "now"), (999, "now"), (-1_500, "1 s ago"), (-59_999, "59 s ago"), (-60_000, "1 min ago"), (3 * 60_000, "in 3 min"),
        (-5 * 3_600_000, "5 h ago"), (50 * 3_600_000, "in 2 d"),
    ],
)  # fmt: skip
def test_relative_time_has_one_unit(distance_ms: int, text: str) -> None:
    assert relative(NOON_MS + distance_ms, now_ms=NOON_MS) == text


def test_time_of_day_is_short_and_of_the_zone() -> None:
    assert time_of_day(NOON_MS, now_ms=NOON_MS, zone=UTC) == "12:00"
    assert time_of_day(NOON_MS + 3_000, now_ms=NOON_MS, zone=UTC) == "12:00:03"
    assert time_of_day(NOON_MS, now_ms=NOON_MS, zone=ZoneInfo("Europe/Berlin")) == "13:00"
    assert time_of_day(NOON_MS + 86_400_000, now_ms=NOON_MS, zone=UTC) == "2030-01-02 12:00"
    assert date_and_time(NOON_MS, UTC) == "2030-01-01 12:00:00"
