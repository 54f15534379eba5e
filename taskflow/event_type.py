"""Event types: what the rest of taskflow knows of an event whose data has a type. `event_model` makes them of pydantic. Rule S11.2.

Nothing here, nor in any module that uses it, knows pydantic: who has no typed events never imports it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

from taskflow.errors import ConfigError, InvalidEvent
from taskflow.types import JsonObject
from taskflow.values.record import record

OnInvalid: TypeAlias = Literal["fail", "skip", "dead_letter"]


class EventType(Protocol):
    """The type of the data of the events of one name, in one version, which reads older versions too."""

    @property
    def name(self) -> str:
        """The name of the events."""
        ...

    @property
    def v(self) -> str:
        """The version of the data that it writes."""
        ...

    @property
    def place(self) -> str:
        """Where the code has it, for errors: "shop.events.OrderCreated"."""
        ...

    def schema(self) -> JsonObject:
        """The JSON Schema of the data, in the present version."""
        ...

    def parse(self, data: JsonObject, v: str | None) -> Any:
        """The typed data of an event of version `v`; None stands for the present one, as its sender knew of no versions.

        Raises InvalidEvent, which names each field that does not fit.
        """
        ...

    def dump(self, value: Any) -> JsonObject:
        """The data of an event. Raises InvalidEvent if what was written could not be read again."""
        ...


class TypedEvent:
    """Base of the classes whose instances are the data of an event; `__taskflow_event__` is their EventType."""

    __slots__ = ()
    # None for a base class that has no name: other events share its fields.
    __taskflow_event__: ClassVar[EventType | None] = None


EventName: TypeAlias = str | type[TypedEvent]
"""The name of events, which may end in `*` where that makes sense, or their class."""


def is_typed(value: object) -> bool:
    """Whether the value is a class of typed events."""
    return isinstance(value, type) and issubclass(value, TypedEvent)


def type_of(kind: type[TypedEvent]) -> EventType:
    """The EventType of a class. Raises ConfigError for one without a name."""
    found = kind.__taskflow_event__
    if found is None:
        raise ConfigError(
            f"{kind.__module__}.{kind.__qualname__} is no event yet: give it a name, as in "
            f"`class {kind.__name__}(EventModel, name='shop/order.created')`"
        )
    return found


def name_and_type(event: EventName) -> tuple[str, EventType | None]:
    """The name of an event that is given by its name or its class, and its type. Raises ConfigError."""
    if isinstance(event, type) and issubclass(event, TypedEvent):
        kind = type_of(event)
        return kind.name, kind
    return event, None


@record(kw_only=True)
class EventSchema:
    """The schema of an event as workers register it, for processes without the class."""

    name: str
    v: str
    schema: Mapping[str, Any]  # a JSON Schema

    @classmethod
    def of(cls, kind: EventType) -> EventSchema:
        return cls(name=kind.name, v=kind.v, schema=kind.schema())


class EventTypes:
    """The event types that an app knows, by name: those of its functions. With `strict`, events of other names are refused."""

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.by_name: dict[str, EventType] = {}

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to check."""
        return not self.by_name and not self.strict

    def add(self, kinds: Iterable[EventType]) -> None:
        """Learn types. Raises ConfigError if another type has the name of one of them, and is not the same."""
        for kind in kinds:
            known = self.by_name.setdefault(kind.name, kind)
            if known is not kind and (known.v, known.schema()) != (kind.v, kind.schema()):
                raise ConfigError(
                    f"event {kind.name!r} has two types that differ: {known.place} (version {known.v}) and {kind.place} "
                    f"(version {kind.v}); use one of them everywhere, or give the other another name"
                )

    def check(self, name: str, data: JsonObject, v: str | None) -> str | None:
        """Check an event that is sent by its name; return the version that it is to have. Raises InvalidEvent. Rule S11.2."""
        kind = self.by_name.get(name)
        if kind is not None:
            kind.parse(data, v)
            return kind.v if v is None else v
        if self.strict:
            from taskflow.values.keywords import did_you_mean

            raise InvalidEvent(
                f"event {name!r} has no type, but strict_events allows none without"
                f"{did_you_mean(name, self.by_name) if self.by_name else ''}. Send an EventModel of this name, or name one in the "
                "trigger or in events=[...] of a function"
            )
        return v
