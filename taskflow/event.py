"""Events: the form that users write, the form in which they travel, and the form that handlers see. Rules S1.1 and S1.5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, NotRequired, TypeAlias, TypedDict, cast

import orjson

from taskflow.errors import ConfigError, InvalidEvent, SerializationError
from taskflow.event_type import EventTypes, TypedEvent, type_of
from taskflow.headers import NO_HEADERS, Headers, find_header_problem, inherit
from taskflow.types import Duration, JsonObject
from taskflow.values.durations import parse_duration_ms
from taskflow.values.ids import is_ulid, new_ulid
from taskflow.values.record import record
from taskflow.values.stored import dump

if TYPE_CHECKING:
    # The standard library's has no default before Python 3.13; type checkers bring this module along.
    from typing_extensions import TypeVar

    from taskflow.codecs.codecs import Codecs

    DataT = TypeVar("DataT", default=JsonObject)
else:
    from typing import TypeVar

    DataT = TypeVar("DataT")

# Events of one call share messages of up to this size. The smallest limit of a broker is that of SQS, 256 KiB.
MESSAGE_BYTES = 128 * 1024
MESSAGE_EVENTS = 100
INVOKED = "taskflow/function.invoked"
MAX_EVENTS = 5_000  # in one call of send (S1.2)
MAX_NAME_CHARS = 256
MAX_ID_CHARS = 256
MAX_VERSION_CHARS = 64
MIN_TS_MS = 100_000_000_000  # in 1973: a smaller number probably means seconds
MAX_TS_MS = 253_402_300_799_999  # the end of the year 9999
RESERVED_PREFIX = "taskflow/"
NO_TYPES = EventTypes()
REQUIRED = ("uid", "id", "name", "data", "ts")  # members of an event on the wire


@record
class Event:
    """A named JSON message. Rules S1.1 and S1.5.

        Event("shop/order.created", {"order_id": 7}, id="order-7", headers={"tenant": "acme"})

    `name` has 1-256 characters. `data` is a JSON object. `id`, chosen by the sender, deduplicates events of this name for 24 h
    (S1.3). `ts` is in ms since the epoch, now by default; a `ts` in the future delays the runs that the event starts (S1.4). `user`
    is a JSON object, `v` (str) the version of the event's shape. `headers` are short strings by name, 8 KiB at most, which the runs
    of the event inherit, and the events and runs that these send and start (S11.1).

    Raises InvalidEvent.
    """

    name: str
    data: JsonObject = field(default_factory=dict)
    id: str | None = None
    ts: int | None = None
    user: JsonObject | None = None
    v: str | None = None
    headers: Headers | None = None

    def __post_init__(self) -> None:
        problem = find_problem(self.name, self.data, self.id, self.ts, self.user, self.v, self.headers)
        if problem is not None:
            raise InvalidEvent(problem)

    @classmethod
    def of(
        cls,
        typed: TypedEvent,
        *,
        id: str | None = None,
        ts: int | None = None,
        user: JsonObject | None = None,
        headers: Headers | None = None,
    ) -> Event:
        """The event of a model, with an id and other fields that are not in its data. Rule S11.2.

            app.send([Event.of(OrderCreated(order_id="A-1"), id="order-A-1"), ...])

        Raises InvalidEvent, which names each field that does not fit.
        """
        kind = type_of(type(typed))
        return cls(kind.name, kind.dump(typed), id=id, ts=ts, user=user, v=kind.v, headers=headers)


AnyEvent: TypeAlias = Event | TypedEvent
"""An event to send: as it travels, or a model."""


def as_event(event: AnyEvent, types: EventTypes) -> Event:
    """The event to send. What is no model is checked by the type of its name, if there is one. Raises InvalidEvent. Rule S11.2."""
    if isinstance(event, TypedEvent):
        return Event.of(event)
    if types.is_empty:
        return event
    v = types.check(event.name, event.data, event.v)
    return event if v == event.v else replace(event, v=v)


class WireEvent(TypedDict):
    """An event on the wire: its form in broker messages, in the store, and in every module below the app.

    `uid` is the internal ULID; `id` is the sender's id, or the uid again. `ts` is in ms since the epoch. `due` is the same number,
    but it is only there if the sender chose the `ts`, which may then delay runs (S1.4).
    `parent` is the run that called a task (S15.2).
    """

    uid: str
    id: str
    name: str
    data: JsonObject
    ts: int
    due: NotRequired[int]
    user: NotRequired[JsonObject]
    v: NotRequired[str]
    headers: NotRequired[dict[str, str]]
    parent: NotRequired[str]


# Not frozen: a frozen dataclass takes four times as long to make, and each run makes one.
@dataclass(slots=True)
class ReceivedEvent(Generic[DataT]):
    """An event as a handler sees it: `ctx.event`. Rule S1.1.

    `uid` is the internal ULID; `id` is the sender's id, or the uid if the sender gave none; `ts` is in ms since the epoch.
    `name`, `data`, `user`, `v` and `headers` are those that were sent; of a typed event `data` is the model (S11.2).
    """

    uid: str
    id: str
    name: str
    data: DataT
    ts: int
    user: JsonObject | None = None
    v: str | None = None
    headers: Headers = field(default_factory=lambda: NO_HEADERS)

    @classmethod
    def from_wire(cls, obj: WireEvent) -> ReceivedEvent[Any]:
        """Make the event of a wire object that `decode_message` or the store gave."""
        return ReceivedEvent(
            obj["uid"], obj["id"], obj["name"], obj["data"], obj["ts"], obj.get("user"), obj.get("v"),
            obj.get("headers") or NO_HEADERS,
        )  # fmt: skip


def read_event(text: bytes) -> ReceivedEvent[Any]:
    """Make the event of a wire object's JSON."""
    return ReceivedEvent.from_wire(orjson.loads(text))


def encode_event(
    event: Event, *, now_ms: int, max_bytes: int, uid: str | None = None, internal: bool = False,
    inherited: Headers = NO_HEADERS, codecs: Codecs | None = None,
) -> tuple[str, bytes]:  # fmt: skip
    """The public id and the wire object (JSON) of `event`. Rules S1.1 and S1.5.

    `now_ms` (ms since epoch) is the `ts` of an event that has none. `uid` is the internal ULID, by default a new one.
    With `internal` the name may start with `taskflow/`. `inherited` are the headers of the run that sends the event.
    `codecs` encrypt fields of it (S12.2).
    Raises InvalidEvent for a reserved name, data that is no JSON, too many headers, or more than `max_bytes` bytes of JSON.
    """
    return encode_fields(
        event.name, event.data, event.id, event.ts, event.user, event.v, event.headers, now_ms=now_ms, max_bytes=max_bytes,
        uid=uid, internal=internal, inherited=inherited, codecs=codecs,
    )  # fmt: skip


def encode_fields(
    name: str, data: JsonObject, id: str | None, ts: int | None, user: JsonObject | None, v: str | None,
    own: Headers | None, *, now_ms: int, max_bytes: int, uid: str | None = None, internal: bool = False,
    inherited: Headers = NO_HEADERS, codecs: Codecs | None = None,
) -> tuple[str, bytes]:  # fmt: skip
    """As `encode_event`, for the fields of an event, in which `find_problem` has found none. `own`: the event's headers."""
    if not internal and name.startswith(RESERVED_PREFIX):
        raise InvalidEvent(
            f"event {name!r}: names that start with {RESERVED_PREFIX!r} are reserved; choose another name"
        )
    if uid is None:
        uid = new_ulid(now_ms)
    public_id = uid if id is None else id
    wire: WireEvent = {
        "uid": uid,
        "id": public_id,
        "name": name,
        "data": data,
        "ts": now_ms if ts is None else ts,
    }
    if ts is not None:
        # Only a `ts` that the sender chose may delay runs: the default one comes from the sender's clock, which nobody corrects.
        wire["due"] = ts
    if user is not None:
        wire["user"] = user
    if v is not None:
        wire["v"] = v
    if inherited or own:
        headers = inherit(inherited, own)
        if inherited and (problem := find_header_problem(headers)):
            raise InvalidEvent(f"event {name!r}: {problem}")
        wire["headers"] = dict(headers)
    try:
        if codecs is not None and codecs.event_fields:
            # Only apps that encrypt need it.
            from taskflow.codecs.event_fields import encode_event as encrypt_fields

            wire = encrypt_fields(codecs, wire, what=f"event {name!r}")
        encoded = dump(wire, what=f"event {name!r}")
    except SerializationError as error:
        raise InvalidEvent(str(error)) from error
    if len(encoded) > max_bytes:
        raise InvalidEvent(
            f"event {name!r} has {len(encoded):,} bytes of JSON, but max_event_bytes allows {max_bytes:,}. "
            "Store what is large elsewhere and send a reference to it, or raise max_event_bytes."
        )
    return public_id, encoded


def events_of(
    event: str | AnyEvent | Sequence[AnyEvent], data: JsonObject | None = None, *, id: str | None = None,
    ts: int | None = None, user: JsonObject | None = None, v: str | None = None, headers: Headers | None = None,
    delay: Duration | None = None, now_ms: int, types: EventTypes = NO_TYPES,
) -> Sequence[Event]:  # fmt: skip
    """The events that the arguments of `send` stand for, checked by their types. Rules S1.4, S1.5, S11.2."""
    events: Sequence[AnyEvent]
    if isinstance(event, str):
        events = (Event(event, {} if data is None else data, id, ts, user, v, headers),)
    elif isinstance(event, TypedEvent):
        if data is not None or v is not None:
            raise TypeError(
                "send() of a model takes id, ts, user and headers: the model has the data, and its class the v"
            )
        events = (Event.of(event, id=id, ts=ts, user=user, headers=headers),)
    elif any(given is not None for given in (data, id, ts, user, v, headers)):
        raise TypeError(
            "send(Event) and send([Event, ...]) take no further arguments: they are fields of Event"
        )
    else:
        events = (event,) if isinstance(event, Event) else event
    # A list of 5,000 plain events is not gone through but for this.
    if not types.is_empty or any(type(each) is not Event for each in events):
        events = [as_event(each, types) for each in events]
    plain = cast(Sequence[Event], events)
    return plain if delay is None else delayed(plain, delay, now_ms)


def encode_events(
    event: str | AnyEvent | Sequence[AnyEvent], data: JsonObject | None = None, *, id: str | None = None,
    ts: int | None = None, user: JsonObject | None = None, v: str | None = None, headers: Headers | None = None,
    delay: Duration | None = None, now_ms: int, max_bytes: int, types: EventTypes = NO_TYPES, codecs: Codecs | None = None,
) -> tuple[list[str], list[bytes]]:  # fmt: skip
    """Encode the arguments of `send`: the events' ids, and the broker messages that carry them. Rules S1.2, S1.4, S1.5, S11.2."""
    if isinstance(event, str) and delay is None and types.is_empty:
        # Most calls. To make an Event would take a third of the time.
        data = {} if data is None else data
        if problem := find_problem(event, data, id, ts, user, v, headers):
            raise InvalidEvent(problem)
        public_id, body = encode_fields(
            event, data, id, ts, user, v, headers, now_ms=now_ms, max_bytes=max_bytes, codecs=codecs
        )
        return [public_id], pack_messages([body])
    events = events_of(
        event, data, id=id, ts=ts, user=user, v=v, headers=headers, delay=delay, now_ms=now_ms, types=types
    )
    if len(events) > MAX_EVENTS:
        raise ConfigError(
            f"send takes at most {MAX_EVENTS:,} events at a time, but got {len(events):,}: send them in parts"
        )
    ids, encoded = [], []
    for one in events:
        public_id, body = encode_event(one, now_ms=now_ms, max_bytes=max_bytes, codecs=codecs)
        ids.append(public_id)
        encoded.append(body)
    return ids, pack_messages(encoded)


def delayed(events: Sequence[Event], delay: Duration, now_ms: int) -> list[Event]:
    """The events, with the `ts` that is `delay` from now. Raises ConfigError for one with a `ts` of its own, InvalidDuration."""
    due_ms = now_ms + parse_duration_ms(delay, what="delay")
    for event in events:
        if event.ts is not None:
            raise ConfigError(f"event {event.name!r}: send() takes delay=... or a ts, not both")
    return [replace(event, ts=due_ms) for event in events]


def pack_messages(encoded: Sequence[bytes]) -> list[bytes]:
    """Pack encoded events into broker messages, each a JSON array, in order."""
    if len(encoded) == 1:
        return [b"[" + encoded[0] + b"]"]
    messages: list[bytes] = []
    batch: list[bytes] = []
    size = 0
    for body in encoded:
        if batch and (size + len(body) > MESSAGE_BYTES or len(batch) >= MESSAGE_EVENTS):
            messages.append(b"[" + b",".join(batch) + b"]")
            batch, size = [], 0
        batch.append(body)
        size += len(body) + 1
    if batch:
        messages.append(b"[" + b",".join(batch) + b"]")
    return messages


def decode_message(body: bytes) -> list[WireEvent]:
    """The wire objects in the body of a broker message, which is a JSON array. Unknown members of them are kept.

    Raises InvalidEvent, which says what is wrong with the body.
    """
    try:
        events = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidEvent(
            f"expected a JSON array of events, got {len(body)} bytes that are no JSON: {error}"
        ) from error
    if not isinstance(events, list):
        raise InvalidEvent(f"expected a JSON array of events, got a JSON {type(events).__name__}")
    for index, event in enumerate(events):
        problem = find_wire_problem(event)
        if problem is not None:
            raise InvalidEvent(f"event {index} of the message: {problem}")
    return events


def find_wire_problem(event: Any) -> str | None:
    """Why `event` is no wire object, as a text for an error; None if it is one."""
    if not isinstance(event, dict):
        return f"expected a JSON object, got a {type(event).__name__}"
    get = event.get
    uid, id, name, data, ts = get("uid"), get("id"), get("name"), get("data"), get("ts")
    if uid is None or id is None or name is None or data is None or ts is None:
        return f"has no {' and no '.join(member for member in REQUIRED if get(member) is None)}"
    if not is_ulid(uid):
        return f"uid must be a ULID, got {uid!r:.100}"
    if type(get("due", 0)) is not int:
        return f"due must be an int of ms since the epoch, got {describe(event['due'])}"
    return find_problem(name, data, id, ts, get("user"), get("v"), get("headers"))


def find_problem(name: Any, data: Any, id: Any, ts: Any, user: Any, v: Any, headers: Any) -> str | None:
    """How the fields of an event break S1.5 (the size aside), as a text for an error; None if they don't."""
    if not isinstance(name, str):
        return f"the name of an event must be a str, got {type(name).__name__}"
    if not 1 <= len(name) <= MAX_NAME_CHARS:
        return (
            f"the name of an event must have 1 to {MAX_NAME_CHARS} characters, got {len(name)}: {name[:40]!r}"
        )
    if not isinstance(data, dict):
        return (
            f"event {name!r}: data must be a JSON object (dict), got {type(data).__name__}; "
            "wrap it, as in {'value': ...}"
        )
    if id is not None and not is_text(id, MAX_ID_CHARS):
        return f"event {name!r}: id must be a str of 1 to {MAX_ID_CHARS} characters, got {describe(id)}"
    if ts is not None and not (type(ts) is int and MIN_TS_MS <= ts <= MAX_TS_MS):
        guess = ", which looks like seconds" if type(ts) in (int, float) and 0 < ts < MIN_TS_MS else ""
        return (
            f"event {name!r}: ts must be an int of ms since the epoch, got {describe(ts)}{guess}; "
            "of a datetime that is int(when.timestamp() * 1000)"
        )
    if user is not None and not isinstance(user, dict):
        return f"event {name!r}: user must be a JSON object (dict) or None, got {type(user).__name__}"
    if v is not None and not is_text(v, MAX_VERSION_CHARS):
        return f"event {name!r}: v must be a str of 1 to {MAX_VERSION_CHARS} characters, got {describe(v)}"
    if headers is not None and (problem := find_header_problem(headers)):
        return f"event {name!r}: {problem}"
    return None


def check_type_name(name: object, v: object, *, what: str) -> None:
    """Raise ConfigError unless `name` and `v` can be those of a typed event."""
    problem = find_problem(name, {}, None, None, None, v, None)
    if problem is None and isinstance(name, str) and (name.endswith("*") or name.startswith(RESERVED_PREFIX)):
        problem = (
            f"event {name!r}: the name of a type must not end in '*', nor start with {RESERVED_PREFIX!r}"
        )
    if problem is not None:
        raise ConfigError(f"{what}: {problem}")


def is_text(value: object, max_chars: int) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= max_chars


def describe(value: object) -> str:
    if isinstance(value, str):
        return f"{len(value)} characters: {value[:40]!r}"
    return f"{type(value).__name__} {value!r:.60}"
