"""kombu's channel: AMQP's methods on Redis Streams (declare, bind, publish, consume, ack, reject)."""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from amqp.protocol import queue_declare_ok_t
from kombu.exceptions import ChannelError
from kombu.transport import virtual
from kombu.utils.uuid import uuid

from taskflow.broker.streams.bindings import Binding, UnknownExchange
from taskflow.broker.streams.broker import StreamsBroker, Subscription, UnknownQueue
from taskflow.broker.streams.entry import Entry
from taskflow.broker.streams.message import StreamMessage, Unacked, encode_message
from taskflow.broker.streams.sender import NoRoute, Outgoing
from taskflow.redis.blocking import ServerLost, ServerRefused


class PublishBatch:
    """Collects the messages of `Producer.batch()`, and sends them in one round trip."""

    def __init__(self, channel: StreamChannel, max_size: int) -> None:
        self.channel = channel
        self._max_size = max_size
        self._messages: list[Outgoing] = []

    def publish(
        self, message: dict[str, Any], *, exchange: str = "", routing_key: str = "", **_: Any
    ) -> None:
        self._messages.append(encode_message(message, exchange, routing_key))
        if len(self._messages) >= self._max_size:
            self.flush()

    def flush(self) -> None:
        messages, self._messages = self._messages, []
        if messages:
            self.channel.publish(messages)

    def discard(self) -> None:
        self._messages = []

    def close(self) -> None:
        self._messages = []


class StreamChannel(virtual.Channel):
    """A channel of kombu. The connection's `StreamsBroker` carries out its methods."""

    Message = StreamMessage  # type: ignore[assignment]
    supports_fanout = True
    supports_batch_publish = True
    do_restore = True

    def __init__(self, connection: virtual.Transport, broker: StreamsBroker) -> None:
        super().__init__(connection)
        self.broker = broker
        self.unacked = Unacked()
        self._tags = itertools.count(1)
        self._subscriptions: dict[str, Subscription] = {}  # by tag
        self._auto_delete: set[str] = set()

    @property
    def qos(self) -> Unacked:
        return self.unacked

    # -- declare

    def exchange_declare(
        self,
        exchange: str = "",
        type: str = "direct",
        durable: bool = False,
        auto_delete: bool = False,
        arguments: dict[str, Any] | None = None,
        nowait: bool = False,
        passive: bool = False,
    ) -> None:
        kind = type or "direct"
        name = exchange or f"amq.{kind}"
        bindings = self.broker.bindings
        facts = {"type": kind, "durable": durable, "auto_delete": auto_delete, "arguments": arguments or {}}
        if not passive:
            if kind not in self.exchange_types:
                raise ChannelError(f"NOT_IMPLEMENTED - exchange type {kind!r} of {name!r}", (40, 10))
            bindings.declare_exchange(name, facts)
        found = bindings.find_exchange(name)
        if found is None:
            raise not_found("exchange", name, (40, 10))
        if not passive and found["type"] != kind:
            raise ChannelError(
                f"PRECONDITION_FAILED - exchange {name!r} is of type {found['type']!r}, asked for {kind!r}",
                (40, 10),
            )

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:
        declared = self.broker.bindings.refresh()
        if if_unused and any(binding.exchange == exchange for binding in declared.bindings):
            raise ChannelError(f"PRECONDITION_FAILED - exchange {exchange!r} is in use", (40, 20))
        self.broker.bindings.delete_exchange(exchange)

    def queue_declare(
        self,
        queue: str = "",
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        nowait: bool = False,
        arguments: dict[str, Any] | None = None,
        **_: Any,
    ) -> Any:
        name = queue or f"amq.gen-{uuid()}"
        bindings = self.broker.bindings
        if passive and name not in bindings.refresh().queues:
            raise not_found("queue", name, (50, 10))
        if not passive:
            expires_ms = int((arguments or {}).get("x-expires") or 0)
            if (auto_delete or exclusive) and not expires_ms:
                # The queue is deleted with its last consumer; if that one dies, it expires a while later.
                expires_ms = max(2 * self.broker.options.claim_idle_ms, 60_000)
            if auto_delete or exclusive:
                self._auto_delete.add(name)
            bindings.declare_queue(name, expires_ms=expires_ms)
        return queue_declare_ok_t(name, self.broker.size(name), 0)

    def prepare_queue_arguments(self, arguments: dict[str, Any] | None, **options: Any) -> dict[str, Any]:
        prepared = dict(arguments or {})
        if options.get("expires") is not None:
            prepared["x-expires"] = int(options["expires"] * 1000)
        return prepared

    def queue_bind(
        self, queue: str, exchange: str = "", routing_key: str = "", arguments: Any = None, **_: Any
    ) -> None:
        name = exchange or "amq.direct"
        try:
            self.broker.bindings.bind(Binding(name, routing_key or "", queue))
        except UnknownExchange:
            raise not_found("exchange", name, (50, 20)) from None

    def queue_unbind(
        self, queue: str, exchange: str = "", routing_key: str = "", arguments: Any = None, **_: Any
    ) -> None:
        self.broker.bindings.unbind(Binding(exchange or "amq.direct", routing_key or "", queue))

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **_: Any) -> int:
        if if_unused and self.broker.is_consumed(queue):
            raise ChannelError(f"PRECONDITION_FAILED - queue {queue!r} is in use", (50, 40))
        size = self.broker.size(queue)
        if if_empty and size:
            raise ChannelError(f"PRECONDITION_FAILED - queue {queue!r} holds {size} messages", (50, 40))
        self.broker.bindings.delete_queue(queue)
        return size

    def list_bindings(self) -> list[tuple[str, str, str]]:
        bound = self.broker.bindings.declared().bindings
        return [(binding.queue, binding.exchange, binding.routing_key) for binding in bound]

    def _size(self, queue: str) -> int:
        return self.broker.size(queue)

    def _purge(self, queue: str) -> int:
        return self.broker.purge(queue)

    # -- publish

    def basic_publish(
        self,
        message: dict[str, Any],
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        **_: Any,
    ) -> None:
        """Publish; return when the message is in the streams of all bound queues."""
        self.publish([encode_message(message, exchange, routing_key, mandatory=mandatory)])

    def publish(self, messages: list[Outgoing]) -> None:
        with amqp_errors():
            self.broker.publish(messages)

    def create_publish_batch(self, max_size: int) -> PublishBatch:
        return PublishBatch(self, max_size)

    # -- consume

    def basic_qos(self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False) -> None:
        self.unacked.prefetch_count = prefetch_count

    def basic_consume(
        self,
        queue: str,
        no_ack: bool = False,
        callback: Callable[[Any], Any] | None = None,
        consumer_tag: str = "",
        **_: Any,
    ) -> str:
        tag = consumer_tag or f"ctag-{uuid()}"
        deliver = callback or (lambda message: None)
        subscription = Subscription(
            queue=queue,
            deliver=lambda entry: deliver(self.receive(entry, no_ack=bool(no_ack))),
            room=self.unacked.can_consume_max_estimate,
            auto_delete=queue in self._auto_delete,
        )
        with amqp_errors():
            self.broker.subscribe(subscription)
        self._subscriptions[tag] = subscription
        return tag

    def basic_cancel(self, consumer_tag: str, **_: Any) -> None:
        subscription = self._subscriptions.pop(consumer_tag, None)
        if subscription is not None:
            self.broker.unsubscribe(subscription)

    def basic_get(self, queue: str, no_ack: bool = False, **_: Any) -> StreamMessage | None:
        entry = self.broker.reader.get(queue)
        return None if entry is None else self.receive(entry, no_ack=no_ack)

    def receive(self, entry: Entry, *, no_ack: bool) -> StreamMessage:
        """Make a message of the entry, and keep the entry until it is acked or rejected."""
        tag = next(self._tags)
        message: StreamMessage = self.Message(entry, self, tag)
        if no_ack:
            self.broker.ack(entry)
        else:
            self.unacked.entries[tag] = entry
        return message

    def message_to_python(self, raw_message: StreamMessage) -> StreamMessage:
        return raw_message

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Acknowledge a message, with `multiple` also all earlier ones. From any thread; sent with the next read."""
        self._check_open()
        for entry in self.unacked.pop(delivery_tag, multiple=multiple):
            self.broker.ack(entry)

    def basic_reject(self, delivery_tag: int, requeue: bool = False) -> None:
        self._check_open()
        for entry in self.unacked.pop(delivery_tag):
            if requeue:
                self.broker.requeue([entry])
            else:
                self.broker.ack(entry)

    def requeue(self, delivery_tags: Iterable[int]) -> None:
        """Put messages back on their queues, in one round trip for each queue."""
        self._check_open()
        self.broker.requeue([entry for tag in delivery_tags for entry in self.unacked.pop(tag)])

    def basic_recover(self, requeue: bool = False) -> None:
        """Put all messages that this channel holds back on their queues."""
        entries = list(self.unacked.entries.values())
        self.unacked.entries.clear()
        self.broker.requeue(entries)

    def close(self) -> None:
        """Cancel the consumers, give back the messages that are not settled. A server that is gone is no error."""
        if self.closed:
            return
        self.closed = True
        connection = self.connection
        with contextlib.suppress(ServerLost, ServerRefused):
            for tag in list(self._subscriptions):
                self.basic_cancel(tag)
            self.basic_recover(requeue=True)
        self._subscriptions.clear()
        self.unacked.entries.clear()
        connection.close_channel(self)

    def _check_open(self) -> None:
        if self.closed or self.connection is None:
            raise ServerLost("the channel is closed; the broker gives the message to a consumer again")


@contextlib.contextmanager
def amqp_errors() -> Iterator[None]:
    """Turn the broker's errors into the AMQP errors that users of kombu know."""
    try:
        yield
    except UnknownExchange as error:
        raise not_found("exchange", str(error), (60, 40)) from None
    except UnknownQueue as error:
        raise not_found("queue", str(error), (60, 20)) from None
    except NoRoute as error:
        raise ChannelError(f"NO_ROUTE - {error}", (60, 50), "", "312") from None


def not_found(kind: str, name: str, method: tuple[int, int]) -> ChannelError:
    return ChannelError(f"NOT_FOUND - no {kind} {name!r}: declare it first", method, "", "404")
