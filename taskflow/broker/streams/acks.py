"""Acks that wait to be sent, together with others: a message that is done is removed from its stream."""

from __future__ import annotations

from typing import Any

from taskflow.broker.streams.commands import ConsumerCommands, by_queue
from taskflow.redis.client import StoreClient

Held = tuple[str, bytes]
"""A message that is not settled: its queue, and its id in the stream."""


class Nobody:
    """Waits for no reply: what an ack fails to settle is delivered again."""

    def done(self) -> bool:
        return True

    def set_result(self, reply: Any) -> None: ...

    def set_exception(self, error: Exception) -> None: ...

    def exception(self) -> None: ...


NOBODY = Nobody()


class Acks:
    """Those of one consumer on a loop."""

    def __init__(self, say: ConsumerCommands) -> None:
        self.say = say
        self.done: list[Held] = []

    def __bool__(self) -> bool:
        return bool(self.done)

    def add(self, done: list[Held]) -> None:
        self.done += done

    def send(self, client: StoreClient) -> None:
        """Send them with what else goes over that connection in this turn of the loop."""
        if self.done:
            done, self.done = self.done, []
            for command in self.say.acks(by_queue(done)):
                client.send(NOBODY, *command)
