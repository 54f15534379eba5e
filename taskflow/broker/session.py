"""One open broker connection to publish over: declares what is needed, knows when the broker has it all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from taskflow.broker.deadline import Deadline
from taskflow.broker.streams.bindings import BoundQueue

PERSISTENT, TRANSIENT = 2, 1


class OutgoingMessage(NamedTuple):
    """A message for all queues that its exchange binds for the routing key."""

    exchange: str
    routing_key: str
    body: bytes
    persistent: bool


class NotTaken(Exception):
    """The broker refused a message, or had no queue for it."""


class Session(Protocol):
    """For one thread at a time."""

    def declare(self, queues: Iterable[BoundQueue], deadline: Deadline) -> None:
        """Declare the queues with their exchanges and bindings, once a session."""
        ...

    def publish(self, messages: Sequence[OutgoingMessage], deadline: Deadline) -> None:
        """Return when the broker has all of them."""
        ...

    def looks_alive(self) -> bool:
        """False if it is known that the connection is lost. One that the broker has closed may only show that when it is used."""
        ...

    def close(self) -> None:
        """Take leave of the broker."""
        ...

    def abandon(self) -> None:
        """Close without a word to the broker, which is gone or silent."""
        ...

    def forget(self) -> None:
        """After a fork: it is the parent's."""
        ...


def delivery_mode(message: OutgoingMessage) -> int:
    return PERSISTENT if message.persistent else TRANSIENT
