"""Sender: appends messages to the streams of the queues that their exchange binds, in one round trip.

The server only appends, which takes a third of the time of a script that first checks the version of the bindings. Instead the
version is asked for right after the messages. If the bindings have changed, `send` also sends the messages to the queues that were
missing, and removes them from queues that are bound no more, unless somebody has read them, before it returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import hiredis

from taskflow.broker.streams.bindings import Bindings, Route, StreamKeys, UnknownExchange
from taskflow.redis.blocking import Command, RespClient, ServerRefused, pack_all

MAX_ROUTING_TRIES = 20
ALL_BYTES = frozenset([bytes])


class Outgoing(NamedTuple):
    """A message to send. `mandatory`: it is an error if no queue is bound for it."""

    exchange: str
    routing_key: str
    metadata: bytes
    body: bytes
    mandatory: bool = False


class NoRoute(Exception):
    """No queue is bound for a mandatory message."""


Place = tuple[int, str]
"""The number of a message in the call, and the stream that it was sent to."""


class Sender:
    """Sends messages over one connection. For one thread at a time."""

    def __init__(self, client: RespClient, bindings: Bindings, keys: StreamKeys) -> None:
        self._client = client
        self._bindings = bindings
        self._ask_version: Command = ("GET", keys.version)
        self._ask_version_packed = pack_all([self._ask_version])

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Return when all messages are in their streams, in order. Raises UnknownExchange, NoRoute, ServerRefused, ServerLost."""
        routes: list[Route] = []
        packed: list[bytes] = []
        for message in messages:
            route = self._route_of(message)
            routes.append(route)
            packed += [append_packed(head, message) for head in route.heads]
        packed.append(self._ask_version_packed)
        *replies, version = self._client.exchange(b"".join(packed), len(packed))
        if version != self._bindings.version or not ALL_BYTES.issuperset(map(type, replies)):
            self._mend(messages, dict(zip(places_of(routes), replies, strict=True)))

    def _mend(self, messages: Sequence[Outgoing], placed: dict[Place, Any]) -> None:
        """Repair the routing after the bindings changed, or streams went: send missing messages, remove those that are too many."""
        for _ in range(MAX_ROUTING_TRIES):
            check(placed)
            self._bindings.refresh()
            routes = [self._route_of(message) for message in messages]
            lasting = {stream for route in routes for stream in route.streams[: route.lasting]}
            expired = self._bindings.drop_expired({stream for _, stream in places_of(routes)} - lasting)
            wanted = {place: None for place in places_of(routes) if place[1] not in expired}
            missing = [place for place in wanted if placed.get(place) is None]
            stale = [place for place, entry_id in placed.items() if entry_id and place not in wanted]
            commands: list[Command] = [
                append(messages[number], stream, make_stream=stream in lasting) for number, stream in missing
            ]
            commands.extend(("XDEL", stream, placed[number, stream]) for number, stream in stale)
            *replies, version = self._client.pipeline([*commands, self._ask_version])
            placed = {place: placed.get(place) for place in wanted}
            placed.update(zip(missing, replies, strict=False))
            if version == self._bindings.version:
                check(placed)
                return
        raise ServerRefused(
            f"the bindings changed {MAX_ROUTING_TRIES} times while {len(messages)} messages were sent"
        )

    def _route_of(self, message: Outgoing) -> Route:
        find_route = self._bindings.find_route
        route = find_route(message.exchange, message.routing_key)
        if route is None or (message.mandatory and not route.streams):
            # another process may have declared the exchange, or bound a queue, since
            self._bindings.refresh()
            route = find_route(message.exchange, message.routing_key)
        if route is None:
            raise UnknownExchange(message.exchange)
        if message.mandatory and not route.streams:
            raise NoRoute(f"no queue is bound to exchange {message.exchange!r} for {message.routing_key!r}")
        return route


def append_packed(head: bytes, message: Outgoing) -> bytes:
    """The command that appends a message, as it is sent; `head` is its beginning, which is made once for a stream."""
    metadata, body = message.metadata, message.body
    return b"%b$%d\r\n%b\r\n$1\r\nb\r\n$%d\r\n%b\r\n" % (head, len(metadata), metadata, len(body), body)


def append(message: Outgoing, stream: str, *, make_stream: bool = False) -> Command:
    """The command that appends a message. Without `make_stream` it does nothing if the stream, and so the queue, is gone."""
    entry = ("*", "m", message.metadata, "b", message.body)
    return ("XADD", stream, *entry) if make_stream else ("XADD", stream, "NOMKSTREAM", *entry)


def places_of(routes: Sequence[Route]) -> Iterator[Place]:
    return ((number, stream) for number, route in enumerate(routes) for stream in route.streams)


def check(placed: dict[Place, Any]) -> None:
    """Raise ServerRefused if the server refused a message."""
    for reply in placed.values():
        if isinstance(reply, hiredis.ReplyError):
            raise ServerRefused(str(reply)) from reply
