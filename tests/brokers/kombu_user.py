"""A consumer as users of kombu write one."""
# mypy: disable-error-code="no-untyped-call, func-returns-value"

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kombu.connection import Connection
from kombu.entity import Queue
from kombu.messaging import Consumer

NewConnection = Callable[..., Connection]


class Receiver:
    """A kombu consumer that keeps the messages."""

    def __init__(
        self,
        connection: Connection,
        queues: list[Queue],
        *,
        acks: bool = True,
        no_ack: bool = False,
        prefetch: int = 0,
    ) -> None:
        self.connection = connection
        self.messages: list[Any] = []
        self.acks = acks and not no_ack
        self.channel = connection.channel()
        self.consumer = Consumer(
            self.channel, queues, on_message=self.take, no_ack=no_ack, prefetch_count=prefetch
        )
        self.consumer.consume()

    def take(self, message: Any) -> None:
        self.messages.append(message)
        if self.acks:
            message.ack()

    def drain(self, seconds: float) -> list[Any]:
        """Receive until nothing comes for so long."""
        try:
            while True:
                self.connection.drain_events(timeout=seconds)
        except TimeoutError:
            return self.messages

    def wait_for(self, count: int, timeout_s: float = 10) -> list[Any]:
        deadline = time.monotonic() + timeout_s
        while len(self.messages) < count:
            assert time.monotonic() < deadline, f"{len(self.messages)} of {count} messages"
            try:
                self.connection.drain_events(timeout=1)
            except TimeoutError:
                continue
        return self.messages


def bodies(messages: list[Any]) -> list[Any]:
    return [message.payload for message in messages]
