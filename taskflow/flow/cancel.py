"""Cancel: events that cancel the runs of a function. Rule S6.1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from taskflow.errors import ConfigError
from taskflow.expressions.cel import compile_expression
from taskflow.timeouts import limit_ms
from taskflow.triggers import check_event_name
from taskflow.types import Duration

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
