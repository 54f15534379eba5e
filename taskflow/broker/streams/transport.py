"""A kombu transport over Redis Streams with consumer groups: `taskflow+redis://`.

Fit for any kombu user: direct, topic and fanout exchanges, acknowledgements, requeueing, prefetch, batches,
takeover of what dead consumers held. A queue is a stream with one group; an acknowledged message is deleted.
What AMQP has and this hasn't: headers exchanges, priorities, message TTLs, length limits. A requeued message goes
to the end of its queue.

Options, in `transport_options` or in the URL's query: `key_prefix` ("tfb:"); `claim_idle_ms` (30,000), after which
the messages of a silent consumer are given to others; `command_timeout_s` (5); `read_count` (250), how many
messages one read brings where no prefetch limit is set; `consumer_name`, with which the names of its consumers begin
(host and pid). One server, or a primary with replicas; on a Redis Cluster
give the prefix a hash tag ("{tfb}:").
"""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import hiredis
from kombu.exceptions import ChannelError
from kombu.transport import virtual

from taskflow.broker.streams.bindings import Bindings, StreamKeys
from taskflow.broker.streams.channel import StreamChannel, Subscription, not_found
from taskflow.broker.streams.message import Outgoing
from taskflow.broker.streams.reader import BLOCK_S, Entry, StreamReader
from taskflow.broker.streams.scripts import PUBLISH_SHA, SCRIPTS
from taskflow.redis.address import parse_server_url, redact
from taskflow.redis.blocking import Command, RespClient, ServerLost, ServerRefused

MAX_ROUTING_TRIES = 20
MAX_READ_COUNT = 1000
MAX_PREDECESSORS = 16
PREDECESSORS = "taskflow_streams_predecessors"
"""Attribute of a `kombu.Connection`: (pid, name) of the consumers that its lost connections were, latest last.

Several, for a connection may break before it has taken over from the one before."""


class Transport(virtual.Transport):
    """One kombu connection: a socket for commands, and one for reads once something is consumed."""

    Channel = StreamChannel  # type: ignore[assignment]
    can_parse_url = True
    default_port = 6379  # type: ignore[assignment]
    driver_type = "redis"
    driver_name = "taskflow-redis-streams"
    connection_errors: tuple[type[Exception], ...] = (  # type: ignore[assignment]
        *virtual.Transport.connection_errors,
        ServerLost,
        OSError,
    )
    channel_errors: tuple[type[Exception], ...] = (  # type: ignore[assignment]
        *virtual.Transport.channel_errors,
        ServerRefused,
    )
    recoverable_connection_errors = connection_errors
    recoverable_channel_errors = channel_errors
    implements = virtual.Transport.implements.extend(
        batch_publish=True, exchange_type=frozenset(["direct", "topic", "fanout"])
    )

    def __init__(self, client: Any, **_: Any) -> None:
        super().__init__(client)
        self._url = streams_url(client)
        address = parse_server_url(self._url, what="broker")
        options = {**address.options, **client.transport_options}
        self.keys = StreamKeys(options.get("key_prefix", "tfb:"))
        self.claim_idle_ms = int(options.get("claim_idle_ms", 30_000))
        self.read_count = int(options.get("read_count", 250))
        self.consumer_name = str(options.get("consumer_name") or f"{socket.gethostname()}-{os.getpid()}")
        self._timeout_s = float(options.get("command_timeout_s") or client.connect_timeout or 5)
        self._pid = os.getpid()
        self._reader: StreamReader | None = None
        self._subscriptions: dict[str, deque[Subscription]] = {}  # by queue; several take turns
        self._waiting: deque[Entry] = deque()  # read, but not yet delivered
        self.commands = self._new_client(SCRIPTS)
        self.bindings = Bindings(self.commands, self.keys)

    def driver_version(self) -> str:
        return str(hiredis.__version__)

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        return f"taskflow+{uri if include_password else redact(uri)}"

    # -- connection

    def establish_connection(self) -> Transport:
        if self._pid != os.getpid():
            self._abandon_after_fork()
        if not self.commands.is_connected:
            self.commands.connect()
        return self

    def verify_connection(self, connection: Any) -> bool:
        # A lost connection that consumes counts as one, or kombu would silently make another that doesn't consume.
        # The next read raises ServerLost.
        return self._pid == os.getpid() and (self.commands.is_connected or bool(self._subscriptions))

    def set_deadline(self, deadline: float | None) -> None:
        """From now on commands end by then, on the monotonic clock; None: within `command_timeout_s` each."""
        self.commands.deadline = deadline

    def close_connection(self, connection: Any) -> None:
        """Give everything back and close; a server that is gone is no error."""
        if self._pid != os.getpid():
            self._abandon_after_fork()
            return
        for channel in list(self.channels):
            channel.close()
        with contextlib.suppress(ServerLost, ServerRefused):
            self.requeue(list(self._waiting))
            if self._reader is not None:
                self._reader.close()
        self._collect(connection)

    def _collect(self, connection: Any) -> None:
        """Close without a word to the server. This client's next connection takes over at once what we hold."""
        if self._reader is not None and self.client is not None and self._pid == os.getpid():
            known = getattr(self.client, PREDECESSORS, [])
            setattr(self.client, PREDECESSORS, [*known, (self._pid, self._reader.name)][-MAX_PREDECESSORS:])
        if self._reader is not None:
            self._reader.abandon()
            self._reader = None
        self.commands.close()
        self._subscriptions.clear()
        self._waiting.clear()
        for channel in list(self.channels):
            channel.closed = True
            self.close_channel(channel)

    def _abandon_after_fork(self) -> None:
        """The sockets and messages are the parent's: drop our copies, and begin anew."""
        if self._reader is not None:
            self._reader.abandon()
        self.commands.close()
        client, channels = self.client, list(self.channels)
        for channel in channels:
            channel.closed = True
            channel.unacked.entries.clear()
        self.__init__(client)  # type: ignore[misc]

    def create_channel(self, connection: Any) -> StreamChannel:
        channel = StreamChannel(self)
        self.channels.append(channel)
        return channel

    @property
    def reader(self) -> StreamReader:
        if self._reader is None:
            predecessors = getattr(self.client, PREDECESSORS, [])
            self._reader = StreamReader(
                commands=self.commands,
                reads=self._new_client(()),
                keys=self.keys,
                name=f"{self.consumer_name}-{uuid.uuid4().hex[:12]}",
                claim_idle_ms=self.claim_idle_ms,
                predecessors=[name for pid, name in predecessors if pid == self._pid],
                on_gone=self._declare_again,
            )
        return self._reader

    def _new_client(self, scripts: Sequence[str]) -> RespClient:
        return RespClient(self._url, timeout_s=self._timeout_s, scripts=scripts)

    def _declare_again(self) -> None:
        self.bindings.declare_again()
        for queue in self._subscriptions:
            self.bindings.declare_queue(queue, expires_ms=self.bindings.topology().queues.get(queue, 0))

    # -- publish

    def publish(self, messages: list[Outgoing]) -> None:
        """Write all, in order, in one round trip; another if the bindings have changed meanwhile."""
        pending = messages
        for _ in range(MAX_ROUTING_TRIES):
            replies = self.commands.pipeline([self._publish_command(message) for message in pending])
            again: list[Outgoing] = []
            for message, reply in zip(pending, replies, strict=True):
                if reply == -1:
                    again.append(message)
                elif isinstance(reply, hiredis.ReplyError):
                    if not str(reply).startswith("NOSCRIPT"):
                        raise ServerRefused(str(reply)) from reply
                    again.append(message)
                elif reply and (route := self.bindings.find_route(message.exchange, message.routing_key)):
                    self.bindings.drop_expired(route.streams[route.lasting :])
            if not again:
                return
            self.commands.load_scripts()
            self.bindings.refresh()
            pending = again
        raise ServerRefused(
            f"the bindings changed {MAX_ROUTING_TRIES} times while {len(pending)} messages were sent"
        )

    def _publish_command(self, message: Outgoing) -> Command:
        find_route = self.bindings.find_route
        route = find_route(message.exchange, message.routing_key)
        if route is None or (message.mandatory and not route.streams):
            self.bindings.refresh()  # another process may have declared or bound it since
            route = find_route(message.exchange, message.routing_key)
        if route is None:
            raise not_found("exchange", message.exchange, (60, 40))
        if message.mandatory and not route.streams:
            raise ChannelError(
                f"NO_ROUTE - no queue is bound to exchange {message.exchange!r} for {message.routing_key!r}",
                (60, 50),
                "",
                "312",
            )
        keys = (self.keys.version, *route.streams)
        facts = (route.version, route.lasting, message.metadata, message.body)
        return ("EVALSHA", PUBLISH_SHA, len(keys), *keys, *facts)

    # -- consume

    def subscribe(self, subscription: Subscription) -> None:
        queue = subscription.queue
        expires_ms = self.bindings.find_queue(queue)
        if expires_ms is None:
            raise not_found("queue", queue, (60, 20))
        self._subscriptions.setdefault(queue, deque()).append(subscription)
        self.reader.use(queue, expires_ms=expires_ms)

    def unsubscribe(self, tag: str) -> None:
        found = [each for turns in self._subscriptions.values() for each in turns if each.tag == tag]
        for subscription in found:
            turns = self._subscriptions[subscription.queue]
            turns.remove(subscription)
            if turns:
                continue
            del self._subscriptions[subscription.queue]
            self._waiting.extend(self.reader.cancel_read())
            self._requeue_waiting(subscription.queue)
            others = self.reader.leave(subscription.queue)
            if subscription.auto_delete and not others:
                self.bindings.delete_queue(subscription.queue)

    def is_consumed(self, queue: str) -> bool:
        return queue in self._subscriptions

    def requeue(self, entries: Sequence[Entry]) -> None:
        """Give messages back to their queues, in their order."""
        by_queue: dict[str, list[bytes]] = {}
        for entry in entries:
            by_queue.setdefault(entry.queue, []).append(entry.entry_id)
        for queue, entry_ids in by_queue.items():
            self.reader.requeue(queue, entry_ids)

    def interrupt(self) -> None:
        """End a `drain_events` that waits, or else the next one, with TimeoutError. From any thread."""
        reader = self._reader
        if reader is not None:
            reader.interrupt()

    def drain_events(self, connection: Any, timeout: float | None = None, **_: Any) -> None:
        """Deliver what comes; TimeoutError after `timeout` seconds without anything, or if interrupted."""
        if self._pid != os.getpid():
            raise ServerLost("the connection was made before a fork; connect again")
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._deliver_waiting():
            remaining_s = BLOCK_S if deadline is None else deadline - time.monotonic()
            queues, count = self._wanted()
            entries, interrupted = self.reader.poll(queues, count, max(remaining_s, 0.0))
            self._waiting.extend(entries)
            if entries:
                continue
            if interrupted or (deadline is not None and time.monotonic() >= deadline):
                raise TimeoutError

    def _wanted(self) -> tuple[list[str], int]:
        """The queues that may deliver, and how many messages each."""
        queues: list[str] = []
        least = MAX_READ_COUNT
        for queue, turns in self._subscriptions.items():
            rooms = [each.channel.unacked.can_consume_max_estimate() for each in turns]
            room = max(self.read_count if each is None else each for each in rooms)
            if room:
                queues.append(queue)
                least = min(least, room)
        return queues, max(least // max(len(queues), 1), 1)

    def _deliver_waiting(self) -> int:
        """Hand out what was read, as far as prefetch allows; returns how many."""
        waiting, held, delivered = self._waiting, [], 0
        try:
            while waiting:
                entry = waiting.popleft()
                turns = self._subscriptions.get(entry.queue)
                if turns is None:
                    self.requeue([entry])
                    continue
                subscription = next_with_room(turns)
                if subscription is None:
                    held.append(entry)
                    continue
                delivered += 1
                message = subscription.channel.receive(entry, no_ack=subscription.no_ack)
                subscription.callback(message)
        finally:
            waiting.extendleft(reversed(held))
        return delivered

    def _requeue_waiting(self, queue: str) -> None:
        entries = list(self._waiting)
        self._waiting.clear()  # in place: a callback that cancels is called from a loop over it
        self._waiting.extend(entry for entry in entries if entry.queue != queue)
        self.requeue([entry for entry in entries if entry.queue == queue])


def next_with_room(turns: deque[Subscription]) -> Subscription | None:
    """The subscription whose turn it is, among those that may hold another message."""
    for _ in range(len(turns)):
        subscription = turns[0]
        if len(turns) > 1:
            turns.rotate(-1)
        if subscription.channel.unacked.can_consume():
            return subscription
    return None


def streams_url(client: Any) -> str:
    """The server's URL of a `kombu.Connection`."""
    hostname = client.hostname or "localhost"
    if "://" in hostname:
        return str(hostname).removeprefix("taskflow+")
    # An alternate URL, which kombu has taken apart.
    scheme = "rediss" if str(client.transport_cls).endswith("+rediss") or client.ssl else "redis"
    user = (
        f"{quote(client.userid or '', safe='')}:{quote(client.password, safe='')}@" if client.password else ""
    )
    database = str(client.virtual_host or "0").strip("/") or "0"
    return f"{scheme}://{user}{hostname}:{client.port or 6379}/{database}"
