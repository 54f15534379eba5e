"""Sessions over kombu: for every broker except Redis and Valkey, which `streams_session` serves."""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Producer

from taskflow.broker.connection import (
    abandon_connection,
    close_connection,
    forget_connection,
    limit_time,
    new_connection,
    open_connection,
    transport_name,
)
from taskflow.broker.deadline import Deadline
from taskflow.broker.session import NotTaken, OutgoingMessage, delivery_mode
from taskflow.broker.streams.bindings import BoundQueue
from taskflow.broker.streams.entry import CONTENT_ENCODING, CONTENT_TYPE


def kombu_queue(queue: BoundQueue) -> Queue:
    """kombu's form of the queue."""
    exchange = Exchange(queue.exchange, type=queue.kind, durable=True)
    return Queue(queue.name, exchange=exchange, routing_key=queue.routing_key, durable=True)


class KombuSession:
    """Publishes over any kombu transport; the messages of a call go out in one `Producer.batch()`. For one thread at a time."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.channel: Any = connection.channel()
        self._producer = Producer(self.channel, auto_declare=False)
        self._declared: set[str] = set()

    def declare(self, queues: Mapping[str, BoundQueue], deadline: Deadline) -> None:
        for queue in queues.values():
            if queue.name not in self._declared:
                limit_time(self.connection, deadline)
                kombu_queue(queue)(self.channel).declare()
                self._declared.add(queue.name)

    def publish(self, messages: Sequence[OutgoingMessage], deadline: Deadline) -> None:
        limit_time(self.connection, deadline)
        if len(messages) == 1:
            self._publish(messages[0])
            return
        with self._producer.batch():
            for message in messages:
                self._publish(message)

    def looks_alive(self) -> bool:
        return bool(self.connection.connected)

    def close(self) -> None:
        close_connection(self.connection, timeout_s=1.0)

    def abandon(self) -> None:
        abandon_connection(self.connection)

    def forget(self) -> None:
        forget_connection(self.connection)

    def _publish(self, message: OutgoingMessage) -> None:
        self._producer.publish(
            message.body,
            exchange=message.exchange,
            routing_key=message.routing_key,
            delivery_mode=delivery_mode(message),
            content_type=CONTENT_TYPE,
            content_encoding=CONTENT_ENCODING,
            mandatory=True,
        )


class ConfirmingSession(KombuSession):
    """Publishes over AMQP: writes all messages, then waits for all confirms. One by one, each would cost the broker a disk sync."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._sequence = 0
        self._unconfirmed: set[int] = set()
        self._refused: list[str] = []
        self.channel.confirm_select()
        self.channel.events["basic_ack"].add(self._on_ack)
        self.channel.events["basic_nack"].add(self._on_nack)
        self.channel.events["basic_return"].add(self._on_return)

    def publish(self, messages: Sequence[OutgoingMessage], deadline: Deadline) -> None:
        for message in messages:
            limit_time(self.connection, deadline)
            self._sequence += 1
            self._unconfirmed.add(self._sequence)
            self._publish(message)
        while self._unconfirmed:
            limit_time(self.connection, deadline)
            self.connection.drain_events(timeout=deadline.remaining_s())
        if self._refused:
            raise NotTaken(f"{len(self._refused)} of {len(messages)} messages: {self._refused[0]}")

    def looks_alive(self) -> bool:
        if not super().looks_alive():
            return False
        # The socket is readable only if the broker has closed the connection, or says that it blocks publishers.
        try:
            self.connection.drain_events(timeout=0)
        except TimeoutError:
            return True
        except Exception:
            return False
        return True

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        if multiple:
            self._unconfirmed = {tag for tag in self._unconfirmed if tag > delivery_tag}
        else:
            self._unconfirmed.discard(delivery_tag)

    def _on_nack(self, delivery_tag: int, multiple: bool) -> None:
        self._refused.append("the broker could not store it")
        self._on_ack(delivery_tag, multiple)

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        self._refused.append(f"no queue is bound for {exchange!r} {routing_key!r}")


def open_kombu_session(url: str, deadline: Deadline, *, key_prefix: str) -> KombuSession:
    """Connect. Raises ConfigError for a URL that can't be used, and whatever the transport raises."""
    connection = new_connection(url, streams={"key_prefix": key_prefix})
    open_connection(connection, deadline)
    try:
        limit_time(connection, deadline)
        kind = ConfirmingSession if transport_name(connection) == "py-amqp" else KombuSession
        return kind(connection)
    except BaseException:
        abandon_connection(connection)
        raise
