"""Link: the consumer's connection, which waits for messages and for other threads at the same time.

How depends on the transport. A read of our streams can be interrupted, and an AMQP socket can be selected together with a waker;
both block until something happens. Every other transport is polled.
"""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kombu.connection import Connection
from kombu.message import Message
from kombu.messaging import Consumer as QueueConsumer

from taskflow.broker.connection import (
    STREAMS_DRIVER,
    abandon_connection,
    close_connection,
    limit_time,
    new_connection,
    open_connection,
    transport_name,
)
from taskflow.broker.deadline import Deadline
from taskflow.broker.kombu_session import kombu_queue
from taskflow.broker.streams.bindings import BoundQueue
from taskflow.broker.streams.consumer import CLAIM_IDLE_MS

HEARTBEAT_S = 20
CONNECT_TIMEOUT_S = 3.0
COMMAND_TIMEOUT_S = 10.0
UNOPENED = object()
BUSY_POLL_S = 0.05
IDLE_POLL_S = 1.0


class Link:
    """A link over any kombu transport, which it polls. Its methods are for one thread, except `wake`."""

    def __init__(
        self,
        connection: Connection,
        on_message: Callable[[str, Any], None],
        on_decode_error: Callable[[str, Any, Exception], None],
    ) -> None:
        self.connection = connection
        self.channel: Any = None
        self._on_message = on_message
        self._on_decode_error = on_decode_error
        self._consumers: dict[str, QueueConsumer] = {}
        self._unsettled: dict[int, None] = {}  # delivery tags of this channel, the oldest first

    def open(self, queues: Sequence[BoundQueue], *, prefetch: int, paused: set[str]) -> None:
        """Connect, declare the queues, and consume those that are not paused."""
        open_connection(self.connection, Deadline(CONNECT_TIMEOUT_S))
        limit_time(self.connection, Deadline(COMMAND_TIMEOUT_S))
        self.channel = self.connection.channel()
        self.channel.Message = unopened(self.channel.Message)
        # Or py-amqp would decode bodies by whatever codec the message names.
        self.channel.auto_decode = False
        self.channel.basic_qos(0, prefetch, False)
        self._consumers = {}
        self._unsettled = {}
        for queue in queues:
            self._consumers[queue.name] = QueueConsumer(
                self.channel,
                [kombu_queue(queue)],
                on_message=self._receiver(queue.name),
                on_decode_error=self._error_receiver(queue.name),
            )
            if queue.name not in paused:
                self._consumers[queue.name].consume()
        limit_time(self.connection, None)

    def consume(self, queue_name: str) -> None:
        if not self._consumers[queue_name].consuming_from(queue_name):
            with self.limited():
                self._consumers[queue_name].consume()

    def cancel(self, queue_name: str) -> None:
        with self.limited():
            self._consumers[queue_name].cancel()

    def ack(self, messages: Iterable[Any]) -> None:
        """Acknowledge messages. Messages of an earlier connection, or settled before, are ignored."""
        for tag in self._settle(messages):
            self.channel.basic_ack(tag)

    def reject(self, messages: Iterable[Any], *, requeue: bool) -> None:
        for tag in self._settle(messages):
            self.channel.basic_reject(tag, requeue=requeue)

    def poll(self, timeout_s: float) -> None:
        """Receive messages; wait for them until `timeout_s` is over or `wake` is called."""
        # A shorter poll while messages are held, since their acks wait for its end.
        interval_s = BUSY_POLL_S if self._unsettled else IDLE_POLL_S
        with contextlib.suppress(TimeoutError):
            self.connection.drain_events(timeout=min(timeout_s, interval_s))

    def wake(self) -> None:
        """End a `poll`, from any thread."""

    @contextlib.contextmanager
    def limited(self) -> Any:
        """Limit all waits for an answer of the server inside the `with`."""
        limit_time(self.connection, Deadline(COMMAND_TIMEOUT_S))
        try:
            yield
        finally:
            limit_time(self.connection, None)

    def close(self, *, timeout_s: float) -> None:
        """Send the acks and close, within `timeout_s`; messages that are not acked go back to their queues at once."""
        close_connection(self.connection, timeout_s=timeout_s)

    def abandon(self) -> None:
        abandon_connection(self.connection)

    def _receiver(self, queue_name: str) -> Callable[[Any], None]:
        def receive(message: Any) -> None:
            self._unsettled[message.delivery_tag] = None
            self._on_message(queue_name, message)

        return receive

    def _error_receiver(self, queue_name: str) -> Callable[[Any, Exception], None]:
        def receive(message: Any, error: Exception) -> None:
            self._unsettled[message.delivery_tag] = None
            self._on_decode_error(queue_name, message, error)

        return receive

    def _settle(self, messages: Iterable[Any]) -> list[int]:
        """Forget the messages; return the delivery tags of those that were not settled before."""
        settled: list[int] = []
        for message in messages:
            tag = message.delivery_tag
            if message.channel is self.channel and tag in self._unsettled:
                del self._unsettled[tag]
                settled.append(tag)
        return settled


def unopened(kind: type[Message]) -> type[Message]:
    """A message class that leaves the body as it came; kombu's own decompresses a body as soon as it has read it."""

    class Unopened(kind):  # type: ignore[valid-type, misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            # kombu does not touch the body of a message that has an error.
            self.errors: list[Any] = [UNOPENED]
            super().__init__(*args, **options)
            self.errors = [error for error in self.errors if error is not UNOPENED]

    return Unopened


class StreamsLink(Link):
    """A link over our own transport, whose blocking read `wake` can interrupt."""

    # The transport that `wake` interrupts. Not `connection.transport`, which between two connections would make a new one.
    _transport: Any = None

    def open(self, queues: Sequence[BoundQueue], *, prefetch: int, paused: set[str]) -> None:
        super().open(queues, prefetch=prefetch, paused=paused)
        self._transport = self.connection.transport

    def reject(self, messages: Iterable[Any], *, requeue: bool) -> None:
        if requeue:
            self.channel.requeue(self._settle(messages))
        else:
            super().reject(messages, requeue=False)

    def poll(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            self.connection.drain_events(timeout=timeout_s)

    def wake(self) -> None:
        transport = self._transport
        if transport is not None:
            transport.broker.interrupt()

    def close(self, *, timeout_s: float) -> None:
        self._transport = None
        super().close(timeout_s=timeout_s)

    def abandon(self) -> None:
        self._transport = None
        super().abandon()


class AmqpLink(Link):
    """A link over AMQP: waits for py-amqp's socket and a waker, and keeps the heartbeats going."""

    def __init__(
        self,
        connection: Connection,
        on_message: Callable[[str, Any], None],
        on_decode_error: Callable[[str, Any, Exception], None],
    ) -> None:
        super().__init__(connection, on_message, on_decode_error)
        self._waker, self._waker_in = socket.socketpair()
        self._waker.setblocking(False)
        self._waker_in.setblocking(False)
        self._next_heartbeat = 0.0

    def ack(self, messages: Iterable[Any]) -> None:
        """Acknowledge messages, in one frame as far as they are the oldest ones: RabbitMQ takes 200 us for each frame."""
        tags = self._settle(messages)
        oldest_kept = next(iter(self._unsettled), None)
        until = [tag for tag in tags if oldest_kept is None or tag < oldest_kept]
        if until:
            self.channel.basic_ack(max(until), multiple=True)
        for tag in tags:
            if oldest_kept is not None and tag > oldest_kept:
                self.channel.basic_ack(tag)

    def poll(self, timeout_s: float) -> None:
        self._check_heartbeat()
        if self._drain():
            return
        poll = select.poll()
        poll.register(self._waker, select.POLLIN)
        poll.register(self.connection.connection.sock, select.POLLIN)
        poll.poll(min(timeout_s, HEARTBEAT_S / 4) * 1000)
        with contextlib.suppress(BlockingIOError):
            self._waker.recv(4096)
        self._drain()

    def wake(self) -> None:
        with contextlib.suppress(OSError):
            self._waker_in.send(b"w")

    def close(self, *, timeout_s: float) -> None:
        super().close(timeout_s=timeout_s)
        self._waker.close()
        self._waker_in.close()

    def _drain(self) -> bool:
        """Handle all frames that have arrived; return whether there were any."""
        found = False
        until = time.monotonic() + 0.1  # in a flood of messages, hand over after this what has come
        with contextlib.suppress(TimeoutError):
            while time.monotonic() < until:
                self.connection.drain_events(timeout=0)
                found = True
        return found

    def _check_heartbeat(self) -> None:
        if time.monotonic() >= self._next_heartbeat:
            self._next_heartbeat = time.monotonic() + HEARTBEAT_S / 4
            self.connection.heartbeat_check(rate=2)


def new_link(
    url: str,
    *,
    name: str,
    key_prefix: str,
    on_message: Callable[[str, Any], None],
    on_decode_error: Callable[[str, Any, Exception], None],
) -> Link:
    """A link that isn't open yet: `on_message(queue_name, message)`, or `on_decode_error(queue_name, message, error)`.

    Streams call their consumers by `name`, and their keys begin with `key_prefix`. Raises ConfigError.
    """
    streams: dict[str, str | int] = {"key_prefix": key_prefix, "claim_idle_ms": CLAIM_IDLE_MS}
    if name:
        streams["consumer_name"] = name
    connection = new_connection(url, heartbeat_s=HEARTBEAT_S, streams=streams)
    kind = {STREAMS_DRIVER: StreamsLink, "py-amqp": AmqpLink}.get(transport_name(connection), Link)
    return kind(connection, on_message, on_decode_error)
