"""Retries and backoff, as pure functions. Rules S5.1 to S5.3."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from taskflow.errors import (
    ConfigError,
    InvalidDuration,
    InvalidEvent,
    NonRetriableError,
    RetryAfterError,
)
from taskflow.types import Duration
from taskflow.values.durations import parse_duration_ms, parse_when_ms

MAX_ATTEMPTS = 20
MAX_MULTIPLIER = 100
# Trying again can't help against these: the same code would give the same wrong value.
FINAL = (NonRetriableError, ConfigError, InvalidDuration, InvalidEvent)


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and when to try again. Rules S5.1 and S5.2.

    `attempts` (0-20) counts the tries after the first one. The delay before them grows from `initial` by
    `multiplier` (1-100) up to `maximum`; with `jitter` it is drawn evenly between nothing and that.
    Raises ConfigError.
    """

    attempts: int = 4
    initial: Duration = field(default="10s", compare=False)
    maximum: Duration = field(default="1h", compare=False)
    multiplier: float = 2.0
    jitter: bool = True
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
        object.__setattr__(self, "initial_ms", initial_ms)
        object.__setattr__(self, "maximum_ms", maximum_ms)

    @classmethod
    def of(cls, value: int | Retries | None) -> Retries:
        """The policy that `retries=value` means: so many attempts with the default backoff, or a policy; None is the default."""
        if value is None:
            return cls()
        return value if isinstance(value, Retries) else cls(attempts=value)


def backoff_ms(attempt: int, policy: Retries, jitter: float) -> int:
    """The delay before try `attempt` + 1 (0-based); `jitter` in [0, 1) is drawn by the caller. Rule S5.2."""
    ceiling_ms = min(float(policy.maximum_ms), policy.initial_ms * float(policy.multiplier) ** attempt)
    return int(ceiling_ms * jitter) if policy.jitter else int(ceiling_ms)


def next_attempt_ms(
    policy: Retries, attempt: int, *, now_ms: int, error: BaseException, jitter: float
) -> int | None:
    """When (ms since epoch) to try again after try `attempt` (0-based) raised `error`; None: not at all.

    A RetryAfterError whose delay can't be read counts as any other error, or its run would get stuck on it.
    Rules S5.1 to S5.3.
    """
    if is_final(error) or attempt >= policy.attempts:
        return None
    if isinstance(error, RetryAfterError):
        try:
            return retry_after_ms(error, now_ms=now_ms)
        except InvalidDuration:
            pass
    return now_ms + backoff_ms(attempt, policy, jitter)


def is_final(error: BaseException) -> bool:
    """Whether no attempt is to follow; a group is final when all that is in it is."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_final(one) for one in error.exceptions)
    return isinstance(error, FINAL)


def retry_after_ms(error: RetryAfterError, *, now_ms: int) -> int:
    """The moment (ms since epoch, not before `now_ms`) that `error` asks for. Raises InvalidDuration."""
    if isinstance(error.delay, datetime):
        return max(now_ms, parse_when_ms(error.delay, now_ms=now_ms, what="RetryAfterError.delay"))
    return now_ms + parse_duration_ms(error.delay, what="RetryAfterError.delay")
