from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.errors import InvalidDuration
from taskflow.values.durations import MAX_DURATION_MS, format_duration, parse_duration_ms, parse_when_ms

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("1h30m", 5_400_000),
        ("2 days", 172_800_000),
        ("1 day, 2 hours", 93_600_000),
        ("1.5s", 1_500),
        ("0.5h", 1_800_000),
        ("500ms", 500),
        (" 1H 30M ", 5_400_000),
        ("1 week", 604_800_000),
        ("30", 30_000),
        ("366d", MAX_DURATION_MS),
        (0, 0),
        (30, 30_000),
        (0.1, 100),
        (0.0005, 1),
        (1e-9, 1),
        (0.1 + 0.2, 300),
        (timedelta(days=1, milliseconds=5), 86_400_005),
        (timedelta(microseconds=1), 1),
    ],
)
def test_durations_are_read_to_the_ms(value: str | int | float | timedelta, ms: int) -> None:
    assert parse_duration_ms(value) == ms


@pytest.mark.parametrize(
    "value",
    [
        -1,
        -0.5,
        "-5s",
        timedelta(seconds=-1),
        "- 1h",
        10**400,
        pytest.param(10**5_000, id="huge"),
        1e300,
        "367d",
        366 * 86_400 + 1,
        "9" * 60,
    ]
    + [
        True,
        float("nan"),
        float("inf"),
        None,
        b"1s",
        [],
        "",
        " ",
        "soon",
        "1 fortnight",
        "1h30",
        "h",
        "1..5s",
    ]
    + ["1s;", "1e3s", "PT1H", "٣s", "1s" * 100, "1 - 2s"],
)
def test_what_is_no_duration_is_refused_with_the_option_and_the_way_out(value: object) -> None:
    with pytest.raises(InvalidDuration, match=r"^timeouts\.step .*timedelta\.$"):
        parse_duration_ms(value, what="timeouts.step")  # type: ignore[arg-type]


@given(st.integers(0, MAX_DURATION_MS))
def test_every_form_of_a_duration_gives_the_same_ms(ms: int) -> None:
    seconds, rest = divmod(ms, 1000)
    assert parse_duration_ms(f"{seconds}s {rest}ms") == ms
    assert parse_duration_ms(f"{seconds}.{rest:03}s") == ms
    assert parse_duration_ms(ms / 1000) == ms
    assert parse_duration_ms(timedelta(milliseconds=ms)) == ms


@given(st.text(alphabet="0123456789 .,-smhdw", max_size=12) | st.floats())
def test_any_text_or_float_is_a_duration_in_range_or_refused(value: str | float) -> None:
    with suppress(InvalidDuration):
        assert 0 <= parse_duration_ms(value) <= MAX_DURATION_MS


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (NOW_MS + 5, NOW_MS + 5),
        (0, 0),
        (-5, -5),
        ("2023-11-14T22:13:20Z", NOW_MS),
        ("2023-11-15T00:13:20.005+02:00", NOW_MS + 5),
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1969, 12, 31, 23, 59, 59, 999_500, tzinfo=UTC), 0),
        (datetime(1970, 1, 1, 2, 0, 0, 1, tzinfo=timezone(timedelta(hours=2))), 1),
        (datetime.min.replace(tzinfo=UTC), -62_135_596_800_000),
    ],
)
def test_moments_are_read_to_the_ms_and_never_too_early(value: str | int | datetime, ms: int) -> None:
    assert parse_when_ms(value, now_ms=NOW_MS) == ms


@pytest.mark.parametrize(
    "value",
    [datetime(2023, 11, 15), "2023-11-15T00:00:00", "2023-11-15", "tomorrow", "", True, 1.5, None]
    + [
        NOW_MS + MAX_DURATION_MS + 1,
        "9999-12-31T23:59:59-14:00",
        datetime.max.replace(tzinfo=UTC),
        pytest.param(10**5_000, id="huge"),
    ],
)
def test_what_is_no_moment_within_a_year_is_refused(value: object) -> None:
    with pytest.raises(InvalidDuration, match=r"^when .*Write it as an aware datetime"):
        parse_when_ms(value, now_ms=NOW_MS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 s"),
        (250, "250 ms"),
        (1_000, "1 s"),
        (1_500, "1.5 s"),
        (9_990, "10 s"),
        (37_000, "37 s"),
        (59_999, "1 min"),
        (90_000, "1 min 30 s"),
        (3_599_999, "1 h"),
        (5_400_000, "1 h 30 min"),
        (86_399_999, "1 d"),
        (183_600_000, "2 d 3 h"),
        (-37_000, "-37 s"),
    ],
)
def test_durations_are_shown_in_at_most_two_units(ms: int, text: str) -> None:
    assert format_duration(ms) == text
