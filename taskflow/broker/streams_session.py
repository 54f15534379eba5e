"""StreamsSession: publishes to Redis Streams without kombu."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from taskflow.broker.deadline import Deadline
from taskflow.broker.session import OutgoingMessage, delivery_mode
from taskflow.broker.streams.bindings import BoundQueue
from taskflow.broker.streams.broker import StreamsBroker, StreamsOptions
from taskflow.broker.streams.entry import CONTENT_ENCODING, CONTENT_TYPE
from taskflow.broker.streams.sender import Outgoing
from taskflow.redis.address import parse_server_url


class StreamsSession:
    """Writes the same entries as kombu's producer, but without kombu: its import takes 130 ms, its publish twice the time."""

    def __init__(self, broker: StreamsBroker) -> None:
        self.broker = broker
        self._declared: set[str] = set()
        self._metadata: dict[tuple[str, str, bool], bytes] = {}

    def declare(self, queues: Mapping[str, BoundQueue], deadline: Deadline) -> None:
        if new := queues.keys() - self._declared:
            self.broker.set_deadline(deadline.at)
            self.broker.declare([queue for name, queue in queues.items() if name in new])
            self._declared |= new

    def publish(self, messages: Sequence[OutgoingMessage], deadline: Deadline) -> None:
        self.broker.set_deadline(deadline.at)
        self.broker.publish(list(map(self._outgoing, messages)))

    def looks_alive(self) -> bool:
        return self.broker.commands.is_connected

    def close(self) -> None:
        self.broker.abandon()

    def abandon(self) -> None:
        self.broker.abandon()

    def forget(self) -> None:
        self.broker.abandon()

    def _outgoing(self, message: OutgoingMessage) -> Outgoing:
        key = (message.exchange, message.routing_key, message.persistent)
        metadata = self._metadata.get(key)
        if metadata is None:
            metadata = self._metadata[key] = metadata_of(message)
        return Outgoing(message.exchange, message.routing_key, metadata, message.body, True)


def metadata_of(message: OutgoingMessage) -> bytes:
    """The metadata that kombu writes for such a message; the same for all messages of one exchange and routing key."""
    return orjson.dumps(
        {
            "content-type": CONTENT_TYPE,
            "content-encoding": CONTENT_ENCODING,
            "headers": {},
            "properties": {"delivery_mode": delivery_mode(message), "delivery_info": {}, "priority": 0},
            "exchange": message.exchange,
            "routing_key": message.routing_key,
        }
    )


def open_streams_session(url: str, deadline: Deadline, *, key_prefix: str) -> StreamsSession:
    options = {"key_prefix": key_prefix, **parse_server_url(url, what="broker").options}
    broker = StreamsBroker(url, StreamsOptions.of(options))
    broker.set_deadline(deadline.at)
    broker.connect()
    return StreamsSession(broker)
