"""Cron strings, durations and points in time: read, or refused with the documented error. Rules S2.3, S3.2."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.beat.cron import latest_tick_ms, next_tick_ms
from taskflow.errors import ConfigError, InvalidDuration, RetryAfterError
from taskflow.retries import Retries, next_attempt_ms
from taskflow.triggers import TriggerCron
from taskflow.values.durations import MAX_DURATION_MS, parse_duration_ms, parse_when_ms
from tests.fuzz.profile import examples, odd_values, texts

NOW_MS = 1_893_456_000_000
DAY_MS = 86_400_000

cron_fields = st.one_of(
    st.sampled_from(
        ["*", "*/5", "0", "59", "60", "1-5", "5-1", "1,2,3", "mon-fri", "sun", "l", "l5", "w", "15w", "1#2", "?", "*/0", "1-59/7",
         "jan", "h", "r(0-30)", "-", ",", "/", "31", "7", "29", "99999999999999999999", "*,*", "1-", "-1", "٣"]
    ),
    texts,
)  # fmt: skip
zones = st.sampled_from(
    ["", "TZ=Europe/Berlin ", "TZ=UTC ", "TZ=", "TZ= ", "TZ=../../etc/passwd ", "TZ=Europe ", "TZ=\0 ", "TZ=/etc/localtime ",
     "TZ=America/Sao_Paulo ", "CRON_TZ=UTC ", "tz=UTC ", "TZ=posixrules ", "TZ=\ud800 "]
)  # fmt: skip
crons = st.one_of(
    texts,
    st.builds(
        lambda zone, fields: zone + " ".join(fields), zones, st.lists(cron_fields, min_size=4, max_size=7)
    ),
)


@examples(300)
@given(crons)
def test_a_cron_ticks_or_is_refused(cron: str) -> None:
    try:
        TriggerCron(cron)
    except ConfigError:
        return
    tick_ms = next_tick_ms(cron, NOW_MS)
    assert tick_ms > NOW_MS
    assert latest_tick_ms(cron, tick_ms) == tick_ms


@examples(150)
@given(odd_values, odd_values, odd_values)
def test_a_cron_of_anything_is_refused(cron: Any, jitter: Any, catchup: Any) -> None:
    for arguments in ((cron, None, "latest"), ("* * * * *", jitter, "latest"), ("* * * * *", None, catchup)):
        try:
            TriggerCron(*arguments)
        except ConfigError:
            continue


units = st.sampled_from(
    ["ms", "s", "sec", "m", "min", "h", "hrs", "d", "days", "w", "weeks", "y", "", "µs", "M"]
)
digits = st.one_of(
    st.integers(0, 10**20).map(str),
    st.sampled_from(["1.5", ".5", "1.", "1e3", "-1", "+1", "1_000", "٣", "²", "1" * 99]),
)
gaps = st.sampled_from(["", " ", ", "])
parts = st.tuples(digits, gaps, units, gaps).map("".join)
durations = st.one_of(texts, st.lists(parts, max_size=4).map("".join))


@examples(300)
@given(st.one_of(durations, odd_values))
def test_a_duration_is_read_or_refused(value: Any) -> None:
    try:
        ms = parse_duration_ms(value)
    except InvalidDuration:
        return
    assert type(ms) is int
    assert 0 <= ms <= MAX_DURATION_MS


moments = st.one_of(
    texts,
    st.datetimes(timezones=st.none() | st.timezones()).map(lambda moment: moment.isoformat()),
    st.builds(
        lambda date, sign, time, zone: date + sign + time + zone,
        st.sampled_from(["2030-01-31", "2030-13-01", "0001-01-01", "9999-12-31", "2030-W01-1", "20300131", "10000-01-01"]),
        st.sampled_from(["T", " ", "t", ""]),
        st.sampled_from(["12:00:00", "24:00", "23:59:60", "12", "12:00:00.123456789", "00:00", ""]),
        st.sampled_from(["Z", "+02:00", "-23:59", "+24:00", "+00:00:01", "", "z", "[UTC]"]),
    ),
)  # fmt: skip


@examples(300)
@given(st.one_of(moments, odd_values))
def test_a_point_in_time_is_read_or_refused(value: Any) -> None:
    try:
        at_ms = parse_when_ms(value, now_ms=NOW_MS)
    except InvalidDuration:
        return
    assert type(at_ms) is int
    assert at_ms <= NOW_MS + MAX_DURATION_MS


@examples(200)
@given(st.one_of(durations, moments, odd_values))
def test_a_retry_after_whatever_user_code_says_never_fails(delay: Any) -> None:
    try:
        error = RetryAfterError("later", delay)
    except InvalidDuration:
        assert isinstance(delay, datetime) and delay.tzinfo is None
        return
    due_ms = next_attempt_ms(Retries(3), 0, now_ms=NOW_MS, error=error, jitter=0.5)
    assert due_ms is None or type(due_ms) is int


@pytest.mark.parametrize("cron", ["0 0 29 2 *", "TZ=Europe/Berlin 30 2 * * *", "*/7 * * * * *"])
@examples(60)
@given(st.integers(0, 4_000_000_000_000))
def test_ticks_come_after_any_moment(cron: str, after_ms: int) -> None:
    assert next_tick_ms(cron, after_ms) > after_ms
    assert latest_tick_ms(cron, after_ms + DAY_MS * 366 * 8) > after_ms - DAY_MS * 366 * 8
