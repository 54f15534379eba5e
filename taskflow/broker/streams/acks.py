"""Acks: collects acknowledgements, to send them together. An acknowledged message is removed from its stream."""

from __future__ import annotations

from typing import Any

from taskflow.broker.streams.commands import ConsumerCommands, by_queue
from taskflow.redis.client import StoreClient

Held = tuple[str, bytes]
"""A message that is neither acknowledged nor given back: its queue, and its id in the stream."""


class Nobody:
    """A receiver of replies that ignores them: if an ack fails, its message is only delivered again."""

    def done(self) -> bool:
        return True

    def set_result(self, reply: Any) -> None: ...

    def set_exception(self, error: Exception) -> None: ...

    def exception(self) -> None: ...


NOBODY = Nobody()


class Acks:
    """The acks that one consumer on a loop has still to send."""

    def __init__(self, say: ConsumerCommands) -> None:
        self.say = say
        self.done: list[Held] = []

    def __bool__(self) -> bool:
        return bool(self.done)

    def add(self, done: list[Held]) -> None:
        self.done += done

    def send(self, client: StoreClient) -> None:
        """Send the acks, together with the other commands of this turn of the loop on that connection."""
        if self.done:
            done, self.done = self.done, []
            for command in self.say.acks(by_queue(done)):
                client.send(NOBODY, *command)
