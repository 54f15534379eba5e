"""The commands of a consumer of streams, and how to read their replies. Pure: each kind of consumer sends them in its own way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from taskflow.broker.streams.bindings import StreamKeys
from taskflow.broker.streams.entry import Entry, to_entry
from taskflow.broker.streams.scripts import GROUP, script_call
from taskflow.redis.blocking import Command

REQUEUE_BATCH = 500  # messages in one call of the script, so that it stays short


class ConsumerCommands:
    """The commands of one consumer. No other consumer may ever have its `name`.

    A key with a lifetime of `claim_idle_ms` says that the consumer lives, so it may hold messages for any time; other consumers
    take over the messages of a consumer whose key is gone.
    """

    def __init__(self, keys: StreamKeys, name: str, *, claim_idle_ms: int) -> None:
        self.keys = keys
        self.name = name
        self.claim_idle_ms = claim_idle_ms
        self._queues: dict[bytes, str] = {}  # by stream

    def stream(self, queue: str) -> str:
        stream = self.keys.stream(queue)
        self._queues[stream.encode()] = queue
        return stream

    def read(self, queues: Sequence[str], count: int, *, block_ms: int = 0) -> Command:
        """Read at most `count` new messages of each queue; wait up to `block_ms` for the first. The reply is for `entries_of`."""
        block = ("BLOCK", block_ms) if block_ms else ()
        streams = [self.stream(queue) for queue in queues]
        head = ("XREADGROUP", "GROUP", GROUP, self.name, "COUNT", count)
        return (*head, *block, "STREAMS", *streams, *[">"] * len(streams))

    def entries_of(self, reply: Sequence[Any] | None) -> list[Entry]:
        """The messages of the reply to `read`."""
        return [
            to_entry(self._queues[stream], entry_id, fields)
            for stream, found in reply or ()
            for entry_id, fields in found
        ]

    def read_held(self, queue: str, count: int) -> Command:
        """Read the messages that the server notes as held by this consumer: their reply may have been lost. See `held_of`."""
        return ("XREADGROUP", "GROUP", GROUP, self.name, "COUNT", count, "STREAMS", self.stream(queue), "0")

    def held_of(self, reply: Sequence[Any] | None) -> list[Entry]:
        """The messages of the reply to `read_held`, without those that were settled since."""
        return [
            to_entry(self._queues[stream], entry_id, fields, redelivered=True)
            for stream, found in reply or ()
            for entry_id, fields in found
            if fields is not None
        ]

    def acks(self, done: Mapping[str, Sequence[bytes]]) -> list[Command]:
        """Acknowledge and remove messages; `done` has their ids by queue."""
        commands: list[Command] = []
        for queue, entry_ids in done.items():
            stream = self.keys.stream(queue)
            commands.append(("XACK", stream, GROUP, *entry_ids))
            commands.append(("XDEL", stream, *entry_ids))
        return commands

    def requeue(self, held: Mapping[str, Sequence[bytes]]) -> list[Command]:
        """Put messages at the end of their queue, marked as redelivered; `held` has their ids by queue."""
        return [
            script_call(
                "requeue", [self.keys.stream(queue)], group=GROUP, consumer=self.name,
                ids=entry_ids[start : start + REQUEUE_BATCH],
            )
            for queue, entry_ids in held.items()
            for start in range(0, len(entry_ids), REQUEUE_BATCH)
        ]  # fmt: skip

    def take_over(self, queues: Sequence[str], count: int, *, predecessors: Sequence[str] = ()) -> Command:
        """Take at most `count` messages of each queue from dead consumers; `predecessors` are surely dead. See `taken_of`."""
        streams = [self.keys.stream(queue) for queue in queues]
        return script_call(
            "take_over", streams, group=GROUP, consumer=self.name, idle_ms=self.claim_idle_ms, limit=count,
            alive=self.keys.alive, dead=predecessors,
        )  # fmt: skip

    def taken_of(self, queues: Sequence[str], reply: Sequence[Any]) -> list[Entry]:
        """The messages of the reply to `take_over`."""
        return [
            to_entry(queue, entry_id, fields, redelivered=True)
            for queue, found in zip(queues, reply, strict=True)
            for entry_id, fields in found
        ]

    def leave(self, queue: str) -> Command:
        """Leave the queue. The reply is the number of its other live consumers."""
        return script_call(
            "leave", [self.keys.stream(queue)], group=GROUP, consumer=self.name, alive=self.keys.alive
        )

    def show_alive(self) -> Command:
        """Say that this consumer lives, for another `claim_idle_ms`."""
        return ("SET", self.keys.alive + self.name, "1", "PX", self.claim_idle_ms)

    def say_goodbye(self) -> Command:
        return ("DEL", self.keys.alive + self.name)


def by_queue(held: Iterable[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    """The ids of messages by their queue, in order."""
    found: dict[str, list[bytes]] = {}
    for queue, entry_id in held:
        found.setdefault(queue, []).append(entry_id)
    return found
