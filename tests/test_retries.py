from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.errors import ConfigError, InvalidDuration, NonRetriableError, RetryAfterError, StepError
from taskflow.retries import Retries, backoff_ms, next_attempt_ms

NOW_MS = 1_700_000_000_000
STEADY = Retries(attempts=20, initial="10s", maximum="1h", multiplier=2, jitter=False)
FAILURE = ValueError("it broke")


def test_retries_are_4_from_10_s_to_1_h_by_default() -> None:
    policy = Retries()
    assert (policy.attempts, policy.initial_ms, policy.maximum_ms, policy.multiplier, policy.jitter) == (
        (4, 10_000, 3_600_000, 2.0, True)
    )
    assert Retries.of(4) == policy == Retries.of(policy)
    assert Retries(initial=10, maximum=timedelta(hours=1)) == policy


def test_retries_can_not_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Retries().attempts = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"attempts": 21}, "retries must be an int from 0 to 20, got 21"),
        ({"attempts": -1}, "got -1"),
        ({"attempts": True}, "got True"),
        ({"attempts": 1.0}, r"got 1\.0"),
        ({"multiplier": 0.5}, "retries.multiplier must be a number from 1 to 100, got 0.5"),
        ({"multiplier": float("nan")}, "got nan"),
        ({"multiplier": "2"}, "got '2'"),
        ({"jitter": 1}, "retries.jitter must be True or False, got 1"),
        ({"initial": "-1s"}, "retries.initial must not be negative"),
        ({"maximum": "later"}, "retries.maximum can't be read"),
        ({"initial": "2h"}, r"retries.initial \('2h'\) is longer than retries.maximum \('1h'\)"),
    ],
)
def test_a_wrong_policy_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Retries(**options)


def test_the_delay_doubles_up_to_the_maximum() -> None:
    delays_s = [backoff_ms(attempt, STEADY, 0.5) // 1000 for attempt in range(11)]
    assert delays_s == [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]


@given(
    st.integers(0, 20),
    st.floats(0, 1, exclude_max=True),
    st.floats(1, 100),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
)
def test_jitter_draws_between_nothing_and_the_steady_delay(
    attempt: int, jitter: float, multiplier: float, one_ms: int, other_ms: int
) -> None:
    initial, maximum = (timedelta(milliseconds=ms) for ms in sorted((one_ms, other_ms)))
    steady = Retries(initial=initial, maximum=maximum, multiplier=multiplier, jitter=False)
    jittered = Retries(initial=initial, maximum=maximum, multiplier=multiplier, jitter=True)
    full_ms = backoff_ms(attempt, steady, jitter)
    assert 0 <= backoff_ms(attempt, jittered, jitter) <= full_ms <= steady.maximum_ms


def test_a_failure_is_tried_again_until_the_retries_are_used_up() -> None:
    policy = Retries(attempts=2, jitter=False)
    times = [next_attempt_ms(policy, attempt, now_ms=NOW_MS, error=FAILURE, jitter=0) for attempt in range(4)]
    assert times == [NOW_MS + 10_000, NOW_MS + 20_000, None, None]
    assert next_attempt_ms(Retries(attempts=0), 0, now_ms=NOW_MS, error=FAILURE, jitter=0) is None


@pytest.mark.parametrize("error", [NonRetriableError("no"), StepError("no")])
def test_a_non_retriable_error_ends_the_retries(error: Exception) -> None:
    assert next_attempt_ms(STEADY, 0, now_ms=NOW_MS, error=error, jitter=0) is None


@pytest.mark.parametrize(
    ("delay", "wait_ms"),
    [
        ("30s", 30_000),
        (1.5, 1_500),
        (timedelta(minutes=1), 60_000),
        (datetime.fromtimestamp(NOW_MS / 1000 + 5, UTC), 5_000),
        (datetime(2000, 1, 1, tzinfo=UTC), 0),
    ],
)
def test_retry_after_chooses_the_next_attempt(
    delay: str | float | timedelta | datetime, wait_ms: int
) -> None:
    error = RetryAfterError("busy", delay)
    assert next_attempt_ms(STEADY, 0, now_ms=NOW_MS, error=error, jitter=0) == NOW_MS + wait_ms
    assert next_attempt_ms(STEADY, 20, now_ms=NOW_MS, error=error, jitter=0) is None


def test_retry_after_a_time_without_a_zone_is_refused_where_it_is_written() -> None:
    with pytest.raises(InvalidDuration, match=r"RetryAfterError\('busy', ...\): the delay has no time zone"):
        RetryAfterError("busy", datetime(2030, 1, 1))


@pytest.mark.parametrize("delay", ["soon", -1])
def test_retry_after_an_unreadable_delay_is_an_ordinary_failure(delay: str | float) -> None:
    error = RetryAfterError("busy", delay)
    assert next_attempt_ms(STEADY, 0, now_ms=NOW_MS, error=error, jitter=0) == NOW_MS + 10_000


class Flaky(ConnectionError):
    """A cause that may pass."""


@pytest.mark.parametrize(
    ("policy", "error", "is_retried"),
    [
        (Retries(), KeyError("k"), True),
        (Retries(give_up_on=KeyError), KeyError("k"), False),
        (Retries(give_up_on=(KeyError, TypeError)), TypeError("t"), False),
        (Retries(give_up_on=LookupError), KeyError("k"), False),
        (Retries(retry_on=ConnectionError), Flaky(), True),
        (Retries(retry_on=ConnectionError), ValueError("v"), False),
        (Retries(retry_on=()), ValueError("v"), False),
        (Retries(retry_on=ConnectionError, give_up_on=Flaky), Flaky(), False),
        (Retries(retry_on=ConnectionError), RetryAfterError("later", 1), True),
        (Retries(give_up_on=RetryAfterError), RetryAfterError("later", 1), False),
        (Retries(retry_on=NonRetriableError), NonRetriableError("no"), False),
        (Retries(give_up_on=KeyError), ExceptionGroup("g", [KeyError("k"), KeyError("l")]), False),
        (Retries(give_up_on=KeyError), ExceptionGroup("g", [KeyError("k"), ValueError("v")]), True),
    ],
)
def test_the_class_of_an_exception_decides_whether_there_is_another_attempt(
    policy: Retries, error: BaseException, is_retried: bool
) -> None:
    """S5.3"""
    due_ms = next_attempt_ms(policy, 0, now_ms=NOW_MS, error=error, jitter=0.5)
    assert (due_ms is not None) is is_retried


@pytest.mark.parametrize("wrong", ["KeyError", KeyError("k"), int, (KeyError, 7), [KeyError]])
def test_what_is_no_class_of_exceptions_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="give_up_on must be a class of exceptions or a tuple of them"):
        Retries(give_up_on=wrong)


def test_what_a_function_says_beats_its_policy() -> None:
    policy = Retries(3, retry_on=OSError)
    assert Retries.of(policy) is policy
    assert Retries.of(policy, retry_on=KeyError).retry_on is KeyError
    assert Retries.of(2, give_up_on=(KeyError,)) == Retries(2, give_up_on=(KeyError,))
