"""Channels and topics: where messages to watching people go, and of which type they are. Rule S17.1."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar, Generic, TypeVar, overload

from taskflow.errors import ConfigError
from taskflow.types import JsonObject
from taskflow.values.keywords import did_you_mean
from taskflow.values.record import record
from taskflow.values.shape import ANY, Shape

T = TypeVar("T")

MAX_NAME_CHARS = 256
NAME = re.compile(r"[^\x00-\x20\x7f-\x9f\ud800-\udfff]+")
PLACE = re.compile(r"\{([^{}]*)\}")


def check_name(name: object, what: str) -> str:
    """`name` if a channel or topic can be called so. Raises ConfigError."""
    if not isinstance(name, str) or len(name) > MAX_NAME_CHARS or not NAME.fullmatch(name):
        raise ConfigError(
            f"{what} must have 1 to {MAX_NAME_CHARS} characters without blanks and control characters, got {name!r:.80}"
        )
    return name


@record
class TopicRef(Generic[T]):
    """A topic of one channel: where a message goes. `OrderChannel(order_id="A1").status` is one.

    `TopicRef("order:A1", "status")` names a topic for which there is no class; its messages are any JSON.
    """

    channel: str
    name: str
    shape: Shape = ANY

    def __post_init__(self) -> None:
        check_name(self.channel, "the name of a channel")
        check_name(self.name, "the name of a topic")


class Topic(Generic[T]):
    """A topic of a channel class, with the type of its messages: `status = Topic(Status)`. Rule S17.1."""

    def __init__(self, kind: type[T]) -> None:
        self.kind = kind
        self.name = ""
        self._shape: Shape | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, channel: None, owner: type) -> Topic[T]: ...

    @overload
    def __get__(self, channel: Channel, owner: type) -> TopicRef[T]: ...

    def __get__(self, channel: Channel | None, owner: type) -> Topic[T] | TopicRef[T]:
        return self if channel is None else TopicRef(channel.name, self.name, self.shape)

    @property
    def shape(self) -> Shape:
        """How its messages become JSON, and are read again."""
        if self._shape is None:
            # Who publishes nothing needs none of it.
            from taskflow.values.shapes import shape_of

            self._shape = shape_of(self.kind)
        return self._shape


class Channel:
    """Base of the classes of channels. Rule S17.1.

        class OrderChannel(Channel, name="order:{order_id}"):
            status = Topic(Status)
            log = Topic(str)

        await ctx.publish(OrderChannel(order_id="A1").status, Status(...))

    `name` is that of its channels, with places that the keywords of the class fill in. A channel needs no declaration elsewhere.
    Raises ConfigError for a name that can't be one, and for keywords that are no places of it, or missing.
    """

    _pattern: ClassVar[str]
    _topics: ClassVar[dict[str, Topic[Any]]]

    def __init_subclass__(cls, *, name: str) -> None:
        check_name(name, f"the name of {cls.__qualname__}")
        places = PLACE.findall(name)
        if len(set(places)) < len(places) or not all(map(str.isidentifier, places)):
            raise ConfigError(
                f"the places in the name of {cls.__qualname__} must be different words like {{order_id}}, got {name!r:.80}"
            )
        cls._pattern = name
        cls._topics = {topic: value for topic, value in vars(cls).items() if isinstance(value, Topic)}

    def __init__(self, **places: str | int) -> None:
        wanted = PLACE.findall(self._pattern)
        if sorted(places) != sorted(wanted):
            raise ConfigError(
                f"{type(self).__qualname__} takes {', '.join(wanted) or 'no keywords'}, got {', '.join(places) or 'none'}"
            )
        for place, value in places.items():
            if not isinstance(value, (str, int)) or value == "":
                raise ConfigError(
                    f"{type(self).__qualname__}: {place} must be a str or an int, and not empty, got {value!r:.80}"
                )
        name = PLACE.sub(lambda match: str(places[match[1]]), self._pattern)
        self.name = check_name(name, f"the name of this {type(self).__qualname__}")

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} {self.name!r}>"


@record
class Message:
    """A message as a subscriber gets it. Rule S17.1.

    id            its number in the channel; the next message has the next number. Give it as `after=` to go on behind it
    channel       the name of the channel
    topic         the name of the topic
    data          in the type of the topic, where the channel was given as its class; else JSON
    at_ms         when it was published: ms since the epoch
    run_id        the run that published it; None for code outside of runs
    is_after_gap  messages before it are no longer kept, and the subscriber has not had them
    """

    id: int
    channel: str
    topic: str
    data: Any
    at_ms: int
    run_id: str | None = None
    is_after_gap: bool = False

    def to_json(self) -> JsonObject:
        return {
            "id": str(self.id), "channel": self.channel, "topic": self.topic, "data": self.data, "at_ms": self.at_ms,
            "run_id": self.run_id, "is_after_gap": self.is_after_gap,
        }  # fmt: skip


def name_of(channel: Channel | str) -> str:
    """The name of a channel. Raises ConfigError."""
    return channel.name if isinstance(channel, Channel) else check_name(channel, "the name of a channel")


def shapes_of(channel: Channel | str) -> dict[str, Shape]:
    """The shapes of the topics that the channel's class names."""
    if isinstance(channel, str):
        return {}
    return {name: topic.shape for name, topic in channel._topics.items()}


def names_of(channel: Channel | str, topics: Iterable[str | TopicRef[Any]]) -> tuple[str, ...]:
    """The names of the topics that a caller gives. Raises ConfigError for one that the channel does not have."""
    if isinstance(topics, str):
        raise ConfigError(f"topics must be a list, like [{topics!r:.80}], got a str")
    names = tuple(topic.name if isinstance(topic, TopicRef) else topic for topic in topics)
    known = {} if isinstance(channel, str) else channel._topics
    for name in names:
        check_name(name, "the name of a topic")
        if known and name not in known and not name.startswith("$"):
            raise ConfigError(f"{channel!r} has no topic {name!r:.80}{did_you_mean(name, known)}")
    return names
