"""What cancels a run by itself: events (Cancel) and timeouts, which also end steps (Timeouts). Rules S6.1, S6.3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from taskflow.errors import ConfigError, InvalidDuration
from taskflow.expressions.cel import compile_expression
from taskflow.triggers import check_event_name
from taskflow.types import Duration
from taskflow.values.durations import parse_duration_ms

MAX_CANCELS = 5
VARIABLES = ("event", "async")


@dataclass(frozen=True, slots=True)
class Cancel:
    """An event that cancels runs of the function. Rule S6.1.

        Cancel("order/cancelled", match="data.order_id")
        Cancel("order/*", if_exp="async.data.order_id == event.data.order_id && async.data.total == 0", timeout="1h")

    `event` is a name that may end in `*`. `match` is a path that must have the same value in the run's own event and in the one
    that comes. `if_exp` is CEL over `event`, the run's own, and `async`, the one that comes; with `match`, both must hold.
    `timeout`: only events that come within this time after the run was made count; more than 0, at most 1 year.
    Raises ConfigError.
    """

    event: str
    match: str | None = None
    if_exp: str | None = None
    timeout: Duration | None = field(default=None, compare=False)
    timeout_ms: int | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_event_name(self.event, what="cancel event")
        if self.match is not None and not is_path(self.match):
            raise ConfigError(
                f"cancel match must be a path into both events, like 'data.order_id', got {self.match!r:.80}; for anything "
                "else use if_exp"
            )
        if self.if_exp is not None:
            compile_expression(self.if_exp, what="cancel if_exp", variables=VARIABLES)
        object.__setattr__(self, "timeout_ms", limit_ms("cancel timeout", self.timeout))


def is_path(value: object) -> bool:
    return isinstance(value, str) and all(part.isidentifier() for part in value.split("."))


def parse_cancels(value: Cancel | Sequence[Cancel] | None) -> tuple[Cancel, ...]:
    """What `cancel=value` means: one Cancel, or a list of up to 5. Raises ConfigError."""
    if value is None:
        return ()
    cancels = (value,) if isinstance(value, Cancel) else value
    if not isinstance(cancels, (list, tuple)) or not all(isinstance(each, Cancel) for each in cancels):
        raise ConfigError(
            f"cancel must be a Cancel or a list of them, got {value!r:.80}; write Cancel('order/cancelled', match='data.id')"
        )
    if len(cancels) > MAX_CANCELS:
        raise ConfigError(
            f"cancel holds at most {MAX_CANCELS} events, got {len(cancels)}; an event name may end in '*'"
        )
    return tuple(cancels)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a run and its steps may take; None is no limit. Rule S6.3.

    `start`: from when the run is due until its first attempt; then it is cancelled. `finish`: from the first
    attempt on; then it is cancelled. `step`: one attempt of a step; then that fails with StepTimeout.
    Each is more than 0 and at most 1 year. Raises ConfigError.
    """

    start: Duration | None = field(default=None, compare=False)
    finish: Duration | None = field(default=None, compare=False)
    step: Duration | None = field(default=None, compare=False)
    start_ms: int | None = field(init=False, repr=False)
    finish_ms: int | None = field(init=False, repr=False)
    step_ms: int | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "start_ms", limit_ms("timeouts.start", self.start))
        object.__setattr__(self, "finish_ms", limit_ms("timeouts.finish", self.finish))
        object.__setattr__(self, "step_ms", limit_ms("timeouts.step", self.step))


def cancel_reason(message: str) -> bytes:
    """Why a run is cancelled, as JSON in the form of an error, as the store keeps it."""
    return orjson.dumps({"name": "Cancelled", "message": message, "stack": ""})


def limit_ms(option: str, value: Duration | None) -> int | None:
    if value is None:
        return None
    try:
        ms = parse_duration_ms(value, what=option)
    except InvalidDuration as error:
        raise ConfigError(str(error)) from error
    if ms == 0:
        raise ConfigError(f"{option} must be more than 0, got {value!r}; for no limit leave it out")
    return ms
