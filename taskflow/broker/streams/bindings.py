"""Exchanges, queues and bindings of the Redis Streams transport: kept on the server, cached in the process.

Every change gives the topology a new version, and every publish asks for the version right after its messages (`sender`). So the
cache needs no lifetime: a message that is published after a bind has returned reaches the new queue, without an extra round trip.

The version begins with a random epoch. Another epoch, or a lower number, means that the server has lost its data; then this
connection declares again all that it has declared.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from taskflow.broker.streams.scripts import GROUP, script_call
from taskflow.redis.blocking import Command, RespClient, pack_all
from taskflow.values.record import record


@record
class Binding:
    exchange: str
    routing_key: str
    queue: str


class BoundQueue(NamedTuple):
    """A durable queue with the exchange that it is bound to; the exchange's `kind` is "direct", "topic" or "fanout"."""

    name: str
    exchange: str
    kind: str
    routing_key: str = ""


class Route(NamedTuple):
    """The streams that a message goes to: those of durable queues, then those of queues that expire and must not be made anew."""

    streams: tuple[str, ...]
    lasting: int
    # By stream, the beginning of the command that appends a message to it; see `sender.append_packed`.
    heads: tuple[bytes, ...]


@dataclass(slots=True)
class Declared:
    """All exchanges, queues and bindings, as of one version."""

    version: str = ""
    exchanges: dict[str, dict[str, Any]] = field(default_factory=dict)
    queues: dict[str, int] = field(default_factory=dict)  # name -> ms until an unused queue expires, or 0
    bindings: set[Binding] = field(default_factory=set)


class UnknownExchange(Exception):
    """A message was published, or a queue bound, to an exchange that nobody has declared."""


DEFAULT_KEY_PREFIX = "tf:{b}:"


class StreamKeys:
    """All key names of the broker. A prefix with a hash tag, "{b}", keeps them in one slot of a cluster."""

    def __init__(self, prefix: str) -> None:
        self.version = f"{prefix}version"
        self.exchanges = f"{prefix}exchanges"
        self.queues = f"{prefix}queues"
        self.bindings = f"{prefix}bindings"
        self.alive = f"{prefix}alive:"
        self.stream_prefix = f"{prefix}q:"

    def stream(self, queue: str) -> str:
        return self.stream_prefix + queue


class Bindings:
    """Declares exchanges and queues, binds them, and finds the route of a message. For one thread at a time."""

    def __init__(self, client: RespClient, keys: StreamKeys) -> None:
        self._client = client
        self._keys = keys
        # all that this connection has declared, to declare it again if the server loses it
        self._own = Declared()
        self._cached: Declared | None = None
        self._known_version = ""
        # The version of the topology that `find_route` last used, as the server stores it.
        self.version: bytes | None = None
        self._routes: dict[tuple[str, str], Route] = {}

    def declare(self, queues: Sequence[BoundQueue]) -> None:
        """Declare the queues with their exchanges and bindings, in one round trip."""
        for queue in queues:
            self._own.exchanges[queue.exchange] = lasting_exchange(queue)
            self._own.queues[queue.name] = 0
            self._own.bindings.add(Binding(queue.exchange, queue.routing_key, queue.name))
        self._change(declarations(self._keys, queues))

    def declare_exchange(self, name: str, facts: dict[str, Any]) -> None:
        self._own.exchanges[name] = facts
        self._change([("HSETNX", self._keys.exchanges, name, json.dumps(facts))])

    def declare_queue(self, name: str, *, expires_ms: int) -> None:
        self._own.queues[name] = expires_ms
        self._change(queue_commands(self._keys, name, expires_ms=expires_ms))

    def bind(self, binding: Binding) -> None:
        if self.find_exchange(binding.exchange) is None:
            raise UnknownExchange(binding.exchange)
        self._own.bindings.add(binding)
        self._change([("SADD", self._keys.bindings, encode(binding))])

    def unbind(self, binding: Binding) -> None:
        self._own.bindings.discard(binding)
        self._change([("SREM", self._keys.bindings, encode(binding))])

    def delete_queue(self, name: str) -> None:
        self.forget_queue(name)
        bound = [encode(binding) for binding in self.refresh().bindings if binding.queue == name]
        commands: list[Command] = [
            ("DEL", self._keys.stream(name)),
            ("HDEL", self._keys.queues, name),
        ]
        if bound:
            commands.append(("SREM", self._keys.bindings, *bound))
        self._change(commands)

    def delete_exchange(self, name: str) -> None:
        self._own.exchanges.pop(name, None)
        self._own.bindings = {binding for binding in self._own.bindings if binding.exchange != name}
        bound = [encode(binding) for binding in self.refresh().bindings if binding.exchange == name]
        commands: list[Command] = [("HDEL", self._keys.exchanges, name)]
        if bound:
            commands.append(("SREM", self._keys.bindings, *bound))
        self._change(commands)

    def forget_queue(self, name: str) -> None:
        """Don't declare the queue again if the server loses its data: it was deleted, or has expired."""
        self._own.queues.pop(name, None)
        self._own.bindings = {binding for binding in self._own.bindings if binding.queue != name}

    def declared(self) -> Declared:
        """All exchanges, queues and bindings, as of `version`."""
        return self.refresh() if self._cached is None else self._cached

    def find_queue(self, name: str) -> int | None:
        """The queue's `expires_ms`, or None if there is no such queue."""
        found = self.declared().queues.get(name)
        return self.refresh().queues.get(name) if found is None else found

    def find_exchange(self, name: str) -> dict[str, Any] | None:
        """The facts with which the exchange was declared, or None if there is no such exchange."""
        found = self.declared().exchanges.get(name)
        return self.refresh().exchanges.get(name) if found is None else found

    def find_route(self, exchange: str, routing_key: str) -> Route | None:
        """The streams that a message goes to; None if there is no such exchange."""
        topology = self._cached or self.refresh()
        found = self._routes.get((exchange, routing_key))
        if found is None:
            try:
                queues = match_queues(topology, exchange, routing_key)
            except UnknownExchange:
                return None
            lasting = sorted(queue for queue in queues if not topology.queues.get(queue))
            expiring = sorted(queue for queue in queues if topology.queues.get(queue))
            streams = tuple(self._keys.stream(queue) for queue in (*lasting, *expiring))
            found = Route(streams, len(lasting), tuple(map(head_of_append, streams)))
            if len(self._routes) >= 10_000:  # each message may have a routing key of its own
                self._routes.clear()
            self._routes[exchange, routing_key] = found
        return found

    def refresh(self) -> Declared:
        """Read the topology again; if the server has lost it, declare again all that this connection has declared."""
        topology = self._load()
        if is_loss(self._known_version, topology.version) and not self._own_is_in(topology):
            self.declare_again()
            topology = self._load()
        self._cached, self._known_version = topology, topology.version
        self.version = topology.version.encode() or None
        self._routes.clear()
        return topology

    def declare_again(self) -> None:
        """Declare again all that this connection has declared. Parts that still exist stay as they are."""
        own = self._own
        commands: list[Command] = [
            ("HSETNX", self._keys.exchanges, name, json.dumps(facts)) for name, facts in own.exchanges.items()
        ]
        for name, expires_ms in own.queues.items():
            commands.extend(queue_commands(self._keys, name, expires_ms=expires_ms))
        commands.extend(("SADD", self._keys.bindings, encode(binding)) for binding in own.bindings)
        self._change(commands)

    def drop_expired(self, streams: Iterable[str]) -> set[str]:
        """Remove the queues whose stream has expired, so that nothing is routed to them; return those streams."""
        prefix = len(self._keys.stream_prefix)
        expired = {stream for stream in streams if not self._client.call("EXISTS", stream)}
        for stream in expired:
            self.delete_queue(stream[prefix:])
        return expired

    def _change(self, commands: list[Command]) -> None:
        version = self._client.call(*change(self._keys, commands))
        if version.decode() != self._known_version:
            self._cached = None

    def _own_is_in(self, topology: Declared) -> bool:
        return (
            self._own.exchanges.keys() <= topology.exchanges.keys()
            and self._own.queues.keys() <= topology.queues.keys()
            and self._own.bindings <= topology.bindings
        )

    def _load(self) -> Declared:
        # Read the version first: a change during the read makes it an old version, and the next publish notices that.
        version, exchanges, queues, bindings = self._client.pipeline(
            [
                ("GET", self._keys.version),
                ("HGETALL", self._keys.exchanges),
                ("HGETALL", self._keys.queues),
                ("SMEMBERS", self._keys.bindings),
            ]
        )
        return Declared(
            version=version.decode() if version else "",
            exchanges={
                name.decode(): json.loads(facts)
                for name, facts in zip(exchanges[::2], exchanges[1::2], strict=True)
            },
            queues={
                name.decode(): int(expires) for name, expires in zip(queues[::2], queues[1::2], strict=True)
            },
            bindings={Binding(*json.loads(member)) for member in bindings},
        )


def head_of_append(stream: str) -> bytes:
    """How the command that appends a message begins, as it is sent. It does nothing if the stream, and so the queue, is gone."""
    fixed = ("XADD", stream, "NOMKSTREAM", "*", "m")
    count, rest = pack_all([fixed]).split(b"\r\n", 1)
    assert count == b"*%d" % len(fixed)
    # Metadata, the name of the other field, and the body follow.
    return b"*%d\r\n%b" % (len(fixed) + 3, rest)


def encode(binding: Binding) -> str:
    return json.dumps([binding.exchange, binding.routing_key, binding.queue])


def is_loss(known: str, found: str) -> bool:
    """Whether the server has lost its data: its version has another epoch than the known one, or a lower number."""
    if not known:
        return False
    known_epoch, _, known_number = known.rpartition("/")
    found_epoch, _, found_number = found.rpartition("/")
    return known_epoch != found_epoch or int(found_number or 0) < int(known_number)


def change(keys: StreamKeys, commands: Sequence[Command]) -> Command:
    """The command that carries out `commands`, which change the topology, and gives it a new version."""
    body = orjson.dumps([[str(part) for part in command] for command in commands])
    return script_call("change", [keys.version], epoch=uuid.uuid4().hex, commands=body)


def declarations(keys: StreamKeys, queues: Iterable[BoundQueue]) -> list[Command]:
    """The commands for `change` that declare the queues with their exchanges and bindings."""
    commands: list[Command] = []
    for queue in queues:
        facts = json.dumps(lasting_exchange(queue))
        binding = Binding(queue.exchange, queue.routing_key, queue.name)
        commands.append(("HSETNX", keys.exchanges, queue.exchange, facts))
        commands.extend(queue_commands(keys, queue.name, expires_ms=0))
        commands.append(("SADD", keys.bindings, encode(binding)))
    return commands


def lasting_exchange(queue: BoundQueue) -> dict[str, Any]:
    return {"type": queue.kind, "durable": True, "auto_delete": False, "arguments": {}}


def queue_commands(keys: StreamKeys, name: str, *, expires_ms: int) -> list[Command]:
    stream = keys.stream(name)
    commands: list[Command] = [
        ("HSETNX", keys.queues, name, expires_ms),
        ("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM"),
    ]
    if expires_ms:
        commands.append(("PEXPIRE", stream, expires_ms))
    return commands


def match_queues(topology: Declared, exchange: str, routing_key: str) -> set[str]:
    """The queues of a message by AMQP's rules. The default exchange routes to the queue of that name, others by their bindings."""
    if not exchange:
        return {routing_key} & topology.queues.keys()
    if exchange not in topology.exchanges:
        raise UnknownExchange(exchange)
    bound = [binding for binding in topology.bindings if binding.exchange == exchange]
    kind = topology.exchanges[exchange]["type"]
    if kind == "fanout":
        return {binding.queue for binding in bound}
    if kind == "topic":
        key = routing_key + "."
        return {binding.queue for binding in bound if topic_pattern(binding.routing_key).match(key)}
    return {binding.queue for binding in bound if binding.routing_key == routing_key}


def topic_pattern(routing_key: str) -> re.Pattern[str]:
    """A pattern for a binding key: `*` is one word, `#` any number of words or none. It matches routing keys with a "." added."""
    patterns = {"*": r"[^.]*\.", "#": r"(?:[^.]*\.)*"}
    words = routing_key.split(".")
    return re.compile("".join(patterns.get(word, re.escape(word) + r"\.") for word in words) + "$")
