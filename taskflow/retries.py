"""Retries and backoff, as pure functions. Rules S5.1 to S5.3."""

from __future__ import annotations

from dataclasses import field, replace
from datetime import datetime
from typing import TypeAlias

from taskflow.errors import (
    ConfigError,
    InvalidDuration,
    InvalidEvent,
    NonRetriableError,
    RetryAfterError,
)
from taskflow.types import Duration
from taskflow.values.durations import parse_duration_ms, parse_when_ms
from taskflow.values.manifest import in_code_only
from taskflow.values.record import record

MAX_ATTEMPTS = 20
MAX_MULTIPLIER = 100
# Trying again can't help against these errors: the same code would give the same wrong value.
FINAL = (NonRetriableError, ConfigError, InvalidDuration, InvalidEvent)


Exceptions: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]
"""One class of exceptions, or several."""


@record
class Retries:
    """How often, when and after which errors to try again. Rules S5.1 to S5.3.

        Retries(8, initial="1s", maximum="5m", retry_on=(ConnectionError, TimeoutError))

    `attempts` (0-20) is the number of attempts after the first one. The delay before them (a duration) grows from `initial` by the
    factor `multiplier` (1-100) up to `maximum`; with `jitter` it is drawn evenly between 0 and that. An exception of `give_up_on`
    ends the attempts, and so does one that is not of `retry_on`, if that is given. A step that ran out of time counts as
    TimeoutError, and a RetryAfterError always as one of `retry_on`. Raises ConfigError.
    """

    attempts: int = 4
    initial: Duration = field(default="10s", compare=False)
    maximum: Duration = field(default="1h", compare=False)
    multiplier: float = 2.0
    jitter: bool = True
    retry_on: Exceptions | None = in_code_only(None)
    give_up_on: Exceptions = in_code_only(())
    initial_ms: int = field(init=False, repr=False)
    maximum_ms: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        attempts, multiplier = self.attempts, self.multiplier
        if type(attempts) is not int or not 0 <= attempts <= MAX_ATTEMPTS:
            raise ConfigError(
                f"retries must be an int from 0 to {MAX_ATTEMPTS}, got {attempts!r}; 0 means a single attempt"
            )
        if (
            isinstance(multiplier, bool)
            or not isinstance(multiplier, (int, float))
            or not 1 <= multiplier <= MAX_MULTIPLIER
        ):
            raise ConfigError(
                f"retries.multiplier must be a number from 1 to {MAX_MULTIPLIER}, got {multiplier!r}"
            )
        if not isinstance(self.jitter, bool):
            raise ConfigError(f"retries.jitter must be True or False, got {self.jitter!r}")
        try:
            initial_ms = parse_duration_ms(self.initial, what="retries.initial")
            maximum_ms = parse_duration_ms(self.maximum, what="retries.maximum")
        except InvalidDuration as error:
            raise ConfigError(str(error)) from error
        if initial_ms > maximum_ms:
            raise ConfigError(
                f"retries.initial ({self.initial!r}) is longer than retries.maximum ({self.maximum!r}); "
                "lower the one or raise the other"
            )
        for option in ("retry_on", "give_up_on"):
            check_exceptions(option, getattr(self, option))
        object.__setattr__(self, "initial_ms", initial_ms)
        object.__setattr__(self, "maximum_ms", maximum_ms)

    @classmethod
    def of(
        cls,
        value: int | Retries | None,
        *,
        retry_on: Exceptions | None = None,
        give_up_on: Exceptions | None = None,
    ) -> Retries:
        """Read the option `retries`: a number of attempts with the default backoff, or a policy; None is the default policy.

        `retry_on` and `give_up_on`, where given, beat those of the policy.
        """
        policy = cls() if value is None else value if isinstance(value, Retries) else cls(attempts=value)
        if retry_on is not None:
            policy = replace(policy, retry_on=retry_on)
        return policy if give_up_on is None else replace(policy, give_up_on=give_up_on)

    def gives_up_on(self, error: BaseException) -> bool:
        """Whether no attempt follows after this error. A group of exceptions is final if all of its exceptions are."""
        if isinstance(error, BaseExceptionGroup):
            return all(self.gives_up_on(one) for one in error.exceptions)
        if isinstance(error, (FINAL, self.give_up_on)):
            return True
        return self.retry_on is not None and not isinstance(error, (RetryAfterError, self.retry_on))


def check_exceptions(option: str, value: object) -> None:
    """Raise ConfigError unless `value` is None, a class of exceptions, or a tuple of such classes."""
    classes = value if isinstance(value, tuple) else () if value is None else (value,)
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise ConfigError(
                f"{option} must be a class of exceptions or a tuple of them, got {each!r:.80}; write {option}=(TimeoutError,)"
            )


def backoff_ms(attempt: int, policy: Retries, jitter: float) -> int:
    """The delay (ms) after attempt number `attempt` (from 0) failed; the caller draws `jitter` in [0, 1). Rule S5.2."""
    ceiling_ms = min(float(policy.maximum_ms), policy.initial_ms * float(policy.multiplier) ** attempt)
    return int(ceiling_ms * jitter) if policy.jitter else int(ceiling_ms)


def next_attempt_ms(
    policy: Retries, attempt: int, *, now_ms: int, error: BaseException, jitter: float
) -> int | None:
    """When (ms since epoch) to try again after attempt number `attempt` (from 0) raised `error`; None for never.

    A RetryAfterError whose delay can't be read counts as any other error, or its run would never get on.
    Rules S5.1 to S5.3.
    """
    if policy.gives_up_on(error) or attempt >= policy.attempts:
        return None
    if isinstance(error, RetryAfterError) and error.delay is not None:
        try:
            return retry_after_ms(error, now_ms=now_ms)
        except InvalidDuration:
            pass
    return now_ms + backoff_ms(attempt, policy, jitter)


def retry_after_ms(error: RetryAfterError, *, now_ms: int) -> int:
    """The moment (ms since epoch, not before `now_ms`) that `error` asks for. Raises InvalidDuration."""
    assert error.delay is not None, "an error that says when"
    if isinstance(error.delay, datetime):
        return max(now_ms, parse_when_ms(error.delay, now_ms=now_ms, what="RetryAfterError.delay"))
    return now_ms + parse_duration_ms(error.delay, what="RetryAfterError.delay")
