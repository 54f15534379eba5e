import logging
import time

import pytest

from taskflow.values.clock import Clock, SystemClock, VirtualClock

LOGGER = "taskflow.values.clock"


def test_the_system_clock_follows_the_store() -> None:
    clock = SystemClock()
    local_ms = clock.local_now_ms()
    clock.correct(local_ms + 700, local_now_ms=local_ms)
    assert clock.offset_ms == 700
    assert 0 <= clock.now_ms() - 700 - local_ms < 5_000
    assert abs(clock.local_now_ms() - time.time() * 1000) < 5_000


def test_a_slow_answer_changes_only_what_it_contradicts() -> None:
    clock = SystemClock()
    clock.correct(10_700, local_now_ms=10_000)
    clock.correct(12_500, local_now_ms=10_000, error_ms=2_000)
    assert clock.offset_ms == 700
    clock.correct(12_500, local_now_ms=10_000, error_ms=1_000)
    assert clock.offset_ms == 1_500
    clock.correct(9_000, local_now_ms=10_000, error_ms=1_000)
    assert clock.offset_ms == 0


def test_a_skew_over_a_second_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = SystemClock()
    with caplog.at_level(logging.WARNING, logger=LOGGER):
        clock.correct(11_000, local_now_ms=10_000)
        assert caplog.messages == []
        for _ in range(3):
            clock.correct(12_500, local_now_ms=10_000)
        assert len(caplog.messages) == 1
        assert "2.5 s behind the store's" in caplog.messages[0]


def test_a_skew_that_comes_back_is_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    clock = SystemClock()
    with caplog.at_level(logging.WARNING, logger=LOGGER):
        clock.correct(8_000, local_now_ms=10_000)
        clock.correct(10_000, local_now_ms=10_000)
        clock.correct(8_000, local_now_ms=10_000)
    assert ["2.0 s ahead of the store's" in message for message in caplog.messages] == [True, True]


def test_the_virtual_clock_moves_only_when_told() -> None:
    clock = VirtualClock(1_000)
    as_clock: Clock = clock
    assert as_clock.now_ms() == as_clock.now_ms() == 1_000
    assert clock.advance(ms=5) == 1_005
    assert clock.advance(days=1, hours=1, minutes=1, seconds=1.5) == 1_005 + 90_061_500
    with pytest.raises(ValueError, match="only moves forward, got -1 ms"):
        clock.advance(ms=-1)
