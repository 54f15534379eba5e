"""Cancel: events that cancel the runs of a function. Rule S6.1."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar, Self

from taskflow.errors import ConfigError
from taskflow.event_type import TypedEvent, name_and_type
from taskflow.expressions.cel import compile_expression
from taskflow.expressions.matching import NOTHING_EQUAL, place_wait
from taskflow.flow.limit import Limit
from taskflow.timeouts import limit_ms
from taskflow.triggers import check_event_name
from taskflow.types import Duration, EventFields, FunctionId
from taskflow.values.record import record

MAX_CANCELS = 5
VARIABLES = ("event", "async")


@record
class Cancel:
    """Cancel runs of the function when an event comes. Rule S6.1.

        Cancel("order/cancelled", match="data.order_id")
        Cancel("order/*", if_exp="async.data.order_id == event.data.order_id && async.data.total == 0", timeout="1h")

    `event` is the name of the cancelling event, which may end in `*`, or its EventModel (S11.2). `match` is a path, like
    "data.order_id": the cancelling event must have the same value there as the event that started the run. `if_exp` is CEL over
    `event`, which started the run, and `async`, which cancels it; with `match`, both must hold. `timeout` (a duration, more than 0
    and at most 1 year): only events within this time after the run was made count. Raises ConfigError.
    """

    event: str
    match: str | None = None
    if_exp: str | None = None
    timeout: Duration | None = field(default=None, compare=False)
    timeout_ms: int | None = field(init=False, repr=False)

    def __init__(
        self,
        event: str | type[TypedEvent],
        match: str | None = None,
        if_exp: str | None = None,
        timeout: Duration | None = None,
    ) -> None:
        name, _ = name_and_type(event)
        check_event_name(name, what="cancel event")
        if match is not None and not is_path(match):
            raise ConfigError(
                f"cancel match must be a path into both events, like 'data.order_id', got {match!r:.80}; for anything "
                "else use if_exp"
            )
        if if_exp is not None:
            compile_expression(if_exp, what="cancel if_exp", variables=VARIABLES)
        for field_name, value in (
            ("event", name),
            ("match", match),
            ("if_exp", if_exp),
            ("timeout", timeout),
        ):
            object.__setattr__(self, field_name, value)
        object.__setattr__(self, "timeout_ms", limit_ms("cancel timeout", timeout))


def is_path(value: object) -> bool:
    return isinstance(value, str) and all(part.isidentifier() for part in value.split("."))


@record
class Cancels(Limit):
    """The events that cancel the runs of a function, up to five."""

    events: tuple[Cancel, ...]

    option: ClassVar[str] = "cancel"
    entry: ClassVar[str] = "cancels"

    def __post_init__(self) -> None:
        if len(self.events) > MAX_CANCELS:
            raise ConfigError(
                f"cancel holds at most {MAX_CANCELS} events, got {len(self.events)}; an event name may end in '*'"
            )

    @classmethod
    def parse(cls, value: Any) -> Self | None:
        """Read the option `cancel`: a Cancel, or a list of up to 5. Raises ConfigError."""
        if value is None:
            return None
        cancels = (value,) if isinstance(value, Cancel) else value
        if not isinstance(cancels, (list, tuple)) or not all(isinstance(each, Cancel) for each in cancels):
            raise ConfigError(
                f"cancel must be a Cancel or a list of them, got {value!r:.80}; write Cancel('order/cancelled', match='data.id')"
            )
        return cls(tuple(cancels)) if cancels else None

    @property
    def of_one_event(self) -> str:
        return self.option

    def plan(self, function_id: FunctionId, event: EventFields) -> list[dict[str, Any]]:
        """The index entries {events, path, token, condition, timeout_ms}, without members that are not set.

        A Cancel that no event can meet is left out.
        """
        entries = []
        for cancel in self.events:
            place = place_wait([cancel.event], cancel.match, cancel.if_exp, event=event)
            if place.token == NOTHING_EQUAL:
                continue
            entry = {
                "events": place.events,
                "path": place.path,
                "token": place.token,
                "condition": place.condition,
                "timeout_ms": cancel.timeout_ms,
            }
            entries.append({name: value for name, value in entry.items() if value is not None})
        return entries
