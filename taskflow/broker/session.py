"""Session: one open connection to the broker, over which a publisher declares queues and publishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from taskflow.broker.deadline import Deadline
from taskflow.broker.streams.bindings import BoundQueue

PERSISTENT, TRANSIENT = 2, 1


class OutgoingMessage(NamedTuple):
    """A message to publish: it goes to all queues that the exchange binds for the routing key."""

    exchange: str
    routing_key: str
    body: bytes
    persistent: bool


class NotTaken(Exception):
    """The broker refused a message, or had no queue for it."""


class Session(Protocol):
    """An open connection for publishing. For one thread at a time."""

    def declare(self, queues: Mapping[str, BoundQueue], deadline: Deadline) -> None:
        """Declare the queues, by name, with their exchanges and bindings; each is declared once a session."""
        ...

    def publish(self, messages: Sequence[OutgoingMessage], deadline: Deadline) -> None:
        """Publish the messages; return when the broker has all of them."""
        ...

    def looks_alive(self) -> bool:
        """False if the connection is known to be lost. A connection that the broker closed may show that only when it is used."""
        ...

    def close(self) -> None:
        """Close the connection in order."""
        ...

    def abandon(self) -> None:
        """Close without telling the broker, which is gone or silent."""
        ...

    def forget(self) -> None:
        """After a fork: close this process's copy of the parent's connection, without sending anything over it."""
        ...


def delivery_mode(message: OutgoingMessage) -> int:
    return PERSISTENT if message.persistent else TRANSIENT
