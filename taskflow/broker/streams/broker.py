"""`StreamsBroker`: exchanges, queues and consumers on one Redis or Valkey server, by Redis Streams with consumer groups.

A queue is a stream with one group; an acknowledged message is deleted. Unlike AMQP, it has no headers exchanges, priorities,
message TTLs or length limits, and a requeued message goes to the end of its queue.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import hiredis

from taskflow.broker.streams.bindings import (
    DEFAULT_KEY_PREFIX,
    Bindings,
    BoundQueue,
    StreamKeys,
)
from taskflow.broker.streams.commands import by_queue
from taskflow.broker.streams.entry import Entry
from taskflow.broker.streams.reader import BLOCK_S, StreamReader
from taskflow.broker.streams.scripts import GROUP, loading_commands, script_call
from taskflow.broker.streams.sender import Outgoing, Sender
from taskflow.redis.blocking import RespClient
from taskflow.values.record import record

MAX_READ_COUNT = 1000


class UnknownQueue(Exception):
    """A consumer asked for a queue that nobody has declared."""


@record(kw_only=True)
class StreamsOptions:
    """The options of a broker on streams."""

    key_prefix: str = DEFAULT_KEY_PREFIX  # of all its keys
    # after this long without a sign of life, a consumer's messages are given to others
    claim_idle_ms: int = 30_000
    command_timeout_s: float = 5.0
    read_count: int = 250  # messages that one read brings where no prefetch limit is set
    # The names of its consumers begin with this.
    consumer_name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> StreamsOptions:
        """The options in `given`, which may come from a URL's query. Other entries are ignored."""
        kinds: dict[str, Callable[[Any], Any]] = {
            "key_prefix": str,
            "claim_idle_ms": int,
            "command_timeout_s": float,
            "read_count": int,
            "consumer_name": str,
        }
        return cls(**{name: kind(given[name]) for name, kind in kinds.items() if given.get(name)})


@dataclass(slots=True, eq=False)
class Subscription:
    """One receiver of a queue's messages."""

    queue: str
    deliver: Callable[[Entry], None]
    # Returns how many more messages it may hold; None for any number.
    room: Callable[[], int | None] = lambda: None
    auto_delete: bool = False  # the queue is deleted when its last consumer leaves


class StreamsBroker:
    """A connection to a broker on streams: a socket for commands, and a second one for reads as soon as it consumes. Blocking.

    For one thread at a time, except `interrupt` and `ack`. `predecessors` are the consumer names of the same owner's earlier
    connections: the messages that they still hold are taken over at once.
    """

    def __init__(self, url: str, options: StreamsOptions, *, predecessors: Sequence[str] = ()) -> None:
        self.options = options
        self.keys = StreamKeys(options.key_prefix)
        self._url = url
        self.commands = self._new_client()
        self.bindings = Bindings(self.commands, self.keys)
        self._sender = Sender(self.commands, self.bindings, self.keys)
        self._predecessors = predecessors
        self._reader: StreamReader | None = None
        self._subscriptions: dict[str, deque[Subscription]] = {}  # by queue; several take turns
        self._waiting: deque[Entry] = deque()  # messages that were read but not yet delivered

    # -- connection

    @property
    def is_connected(self) -> bool:
        return self.commands.is_connected

    @property
    def consumes(self) -> bool:
        return bool(self._subscriptions)

    @property
    def reader(self) -> StreamReader:
        """The consumer of this connection; made at its first use."""
        if self._reader is None:
            options = self.options
            self._reader = StreamReader(
                commands=self.commands,
                reads=self._new_client(),
                keys=self.keys,
                name=f"{options.consumer_name}-{uuid.uuid4().hex[:12]}",
                claim_idle_ms=options.claim_idle_ms,
                predecessors=self._predecessors,
                on_gone=self._declare_again,
            )
        return self._reader

    @property
    def reader_name(self) -> str | None:
        """The name of the consumer; None if there was no use for one."""
        return None if self._reader is None else self._reader.name

    def _new_client(self) -> RespClient:
        options = self.options
        return RespClient(
            self._url,
            timeout_s=options.command_timeout_s,
            scripts=loading_commands,
            home_key=options.key_prefix,
        )

    def connect(self) -> None:
        self.commands.connect()

    def set_deadline(self, deadline: float | None) -> None:
        """Make further commands end at `deadline` (monotonic clock); None: each within `command_timeout_s`."""
        self.commands.deadline = deadline

    def close(self) -> None:
        """Give all messages back, and close. Raises ServerLost or ServerRefused, but closes in any case."""
        try:
            self.requeue(list(self._waiting))
            if self._reader is not None:
                self._reader.close()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close without telling the server: after a fork, or when the server is gone."""
        if self._reader is not None:
            self._reader.abandon()
            self._reader = None
        self.commands.close()
        self._subscriptions.clear()
        self._waiting.clear()

    # -- queues

    def declare(self, queues: Sequence[BoundQueue]) -> None:
        """Declare the queues with their exchanges and bindings, in one round trip."""
        self.bindings.declare(queues)

    def size(self, queue: str) -> int:
        """The number of messages that no consumer holds."""
        stream = self.keys.stream(queue)
        length, held = self.commands.pipeline([("XLEN", stream), ("XPENDING", stream, GROUP)])
        pending = 0 if isinstance(held, hiredis.ReplyError) else int(held[0])
        return 0 if isinstance(length, hiredis.ReplyError) else max(int(length) - pending, 0)

    def purge(self, queue: str) -> int:
        """Remove the messages that no consumer holds; return how many."""
        return int(self.commands.call(*script_call("purge", [self.keys.stream(queue)], group=GROUP)))

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish; return when all bound queues have the messages. Raises UnknownExchange, NoRoute, ServerRefused, ServerLost."""
        self._sender.send(messages)

    # -- consume

    def subscribe(self, subscription: Subscription) -> None:
        """Deliver messages of the queue, from the next `drain` on. Raises UnknownQueue."""
        queue = subscription.queue
        expires_ms = self.bindings.find_queue(queue)
        if expires_ms is None:
            raise UnknownQueue(queue)
        self._subscriptions.setdefault(queue, deque()).append(subscription)
        self.reader.use(queue, expires_ms=expires_ms)

    def unsubscribe(self, subscription: Subscription) -> None:
        queue = subscription.queue
        turns = self._subscriptions.get(queue)
        if turns is None or subscription not in turns:
            return
        turns.remove(subscription)
        if turns:
            return
        del self._subscriptions[queue]
        self._waiting.extend(self.reader.cancel_read())
        self._requeue_waiting(queue)
        others = self.reader.leave(queue)
        if subscription.auto_delete and not others:
            self.bindings.delete_queue(queue)

    def is_consumed(self, queue: str) -> bool:
        """Whether this connection consumes the queue."""
        return queue in self._subscriptions

    def ack(self, entry: Entry) -> None:
        """Acknowledge a message. From any thread; the ack is sent with the next read."""
        self.reader.ack(entry.queue, entry.entry_id)

    def requeue(self, entries: Iterable[Entry]) -> None:
        """Give messages back to their queues, in their order."""
        held = by_queue((entry.queue, entry.entry_id) for entry in entries)
        if held:
            self.reader.requeue(held)

    def interrupt(self) -> None:
        """Make the `drain` that waits, or else the next one, raise TimeoutError. From any thread."""
        reader = self._reader
        if reader is not None:
            reader.interrupt()

    def drain(self, timeout_s: float | None) -> None:
        """Deliver the next messages. Raises TimeoutError after `timeout_s` without a message, and when interrupted."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
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
        """The queues to read from, and how many messages of each."""
        queues: list[str] = []
        least = MAX_READ_COUNT
        for queue, turns in self._subscriptions.items():
            rooms = [each.room() for each in turns]
            room = max(self.options.read_count if each is None else each for each in rooms)
            if room:
                queues.append(queue)
                least = min(least, room)
        return queues, max(least // max(len(queues), 1), 1)

    def _deliver_waiting(self) -> int:
        """Deliver the messages that were read, as far as prefetch allows; return how many."""
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
                subscription.deliver(entry)
        finally:
            waiting.extendleft(reversed(held))
        return delivered

    def _requeue_waiting(self, queue: str) -> None:
        entries = list(self._waiting)
        # In place: a callback that cancels may be called from a loop over this deque.
        self._waiting.clear()
        self._waiting.extend(entry for entry in entries if entry.queue != queue)
        self.requeue(entry for entry in entries if entry.queue == queue)

    def _declare_again(self) -> None:
        self.bindings.declare_again()
        for queue in self._subscriptions:
            self.bindings.declare_queue(queue, expires_ms=self.bindings.declared().queues.get(queue, 0))


def next_with_room(turns: deque[Subscription]) -> Subscription | None:
    """The next subscription in turn that may hold another message, or None."""
    for _ in range(len(turns)):
        subscription = turns[0]
        if len(turns) > 1:
            turns.rotate(-1)
        if subscription.room() != 0:
            return subscription
    return None
