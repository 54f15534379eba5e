"""Sends messages to the streams of the queues that their exchange binds, in one round trip.

Appending is all that a message costs the server; it takes a third of the time of a script that asks for the bindings' version
first. Instead the version is asked for behind the messages: had the bindings changed, then what is missing is sent, before `send`
returns, to the queues that are bound now. A message in a queue that is bound no more is removed, unless somebody has read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import hiredis

from taskflow.broker.streams.bindings import Bindings, Route, StreamKeys, UnknownExchange
from taskflow.redis.blocking import Command, RespClient, ServerRefused

MAX_ROUTING_TRIES = 20


class Outgoing(NamedTuple):
    """A message to send. With `mandatory`, having no queue to go to is an error."""

    exchange: str
    routing_key: str
    metadata: bytes
    body: bytes
    mandatory: bool = False


class NoRoute(Exception):
    """A mandatory message for which no queue is bound."""


Place = tuple[int, str]
"""A message, by its number, in a stream."""


class Sender:
    """For one thread at a time."""

    def __init__(self, client: RespClient, bindings: Bindings, keys: StreamKeys) -> None:
        self._client = client
        self._bindings = bindings
        self._ask_version: Command = ("GET", keys.version)

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Return when all are in their streams, in order. Raises UnknownExchange, NoRoute, ServerRefused, ServerLost."""
        routes = [self._route_of(message) for message in messages]
        commands = [
            append(message, stream)
            for message, route in zip(messages, routes, strict=True)
            for stream in route.streams
        ]
        commands.append(self._ask_version)
        *replies, version = self._client.pipeline(commands)
        if version != self._bindings.version or not all(type(reply) is bytes for reply in replies):
            self._mend(messages, dict(zip(places_of(routes), replies, strict=True)))

    def _mend(self, messages: Sequence[Outgoing], placed: dict[Place, Any]) -> None:
        """The bindings have changed, or streams are gone: send what is missing, take back what is too much."""
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
            self._bindings.refresh()  # another process may have declared or bound it since
            route = find_route(message.exchange, message.routing_key)
        if route is None:
            raise UnknownExchange(message.exchange)
        if message.mandatory and not route.streams:
            raise NoRoute(f"no queue is bound to exchange {message.exchange!r} for {message.routing_key!r}")
        return route


def append(message: Outgoing, stream: str, *, make_stream: bool = False) -> Command:
    """Unless `make_stream`, nothing is written to a stream that is gone: its queue was deleted, or has expired."""
    entry = ("*", "m", message.metadata, "b", message.body)
    return ("XADD", stream, *entry) if make_stream else ("XADD", stream, "NOMKSTREAM", *entry)


def places_of(routes: Sequence[Route]) -> Iterator[Place]:
    return ((number, stream) for number, route in enumerate(routes) for stream in route.streams)


def check(placed: dict[Place, Any]) -> None:
    """Raises ServerRefused if the server took a message not."""
    for reply in placed.values():
        if isinstance(reply, hiredis.ReplyError):
            raise ServerRefused(str(reply)) from reply
