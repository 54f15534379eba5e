"""Idempotency: one run for each value in 24 hours. Rule S7.8."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from taskflow.flow.checks import check_key
from taskflow.flow.keys import key_id
from taskflow.flow.limit import Limit
from taskflow.types import EventFields, FunctionId
from taskflow.values.record import record


@record
class Idempotency(Limit):
    """Start one run for each value of `key` (CEL over `event`) in 24 h. Users write the key: `idempotency="event.data.order"`."""

    key: str

    option: ClassVar[str] = "idempotency"
    entry: ClassVar[str] = "idem"
    picks_events: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_key("idempotency", self.key)

    @classmethod
    def parse(cls, value: Any) -> Self | None:
        return None if value is None else cls(value)

    @property
    def keys(self) -> list[tuple[str, str]]:
        return [(self.option, self.key)]

    @property
    def of_one_event(self) -> str:
        return self.option

    def plan(self, function_id: FunctionId, event: EventFields) -> str:
        """The id of the idempotency entry for this event's value."""
        return key_id(function_id, self.key, event)
