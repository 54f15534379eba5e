"""StreamReader: the blocking consumer of Redis Streams. It reads, acknowledges, shows that it lives, and takes over.

It has two sockets: `reads` blocks in XREADGROUP, `commands` does everything else. Acks go out in front of the next read; while a
read blocks, they go over `commands`. A key with a lifetime says that this consumer lives, so it may hold messages for any time;
other consumers take over the messages of a consumer whose key is gone.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import hiredis

from taskflow.broker.streams.bindings import StreamKeys
from taskflow.broker.streams.commands import ConsumerCommands, by_queue
from taskflow.broker.streams.entry import Entry
from taskflow.broker.streams.scripts import GROUP
from taskflow.redis.blocking import NO_REPLY, Command, RespClient, ServerLost, ServerRefused

BLOCK_S = 5.0
"""The longest blocking read; it ends so that a dead server is noticed."""

GONE = ("NOGROUP", "UNBLOCKED", "ERR no such key")
"""Beginnings of errors that say: the stream or its group is gone, by FLUSHALL for instance."""


class StreamReader:
    """A consumer of streams. One thread reads; `ack` and `interrupt` may be called from any thread."""

    def __init__(
        self,
        *,
        commands: RespClient,
        reads: RespClient,
        keys: StreamKeys,
        name: str,
        claim_idle_ms: int,
        predecessors: Sequence[str],
        on_gone: Callable[[], None],
    ) -> None:
        self.name = name  # no other consumer ever has the same name
        self._commands = commands
        self._reads = reads
        self._keys = keys
        self._say = ConsumerCommands(keys, name, claim_idle_ms=claim_idle_ms)
        self._claim_idle_ms = claim_idle_ms
        self._predecessors = predecessors
        self._on_gone = on_gone
        self._acks: deque[tuple[str, bytes]] = deque()
        self._replies_due: deque[bool] = deque()  # on the socket `reads`: True for a read, False for an ack
        self._reading: frozenset[str] = frozenset()  # queues of the read in flight
        self._reading_blocks = False
        self._read_until = 0.0
        self._used: dict[str, int] = {}  # queue -> ms until it expires while unused, or 0
        self._next_takeover = 0.0
        self._waker, self._waker_in = socket.socketpair()
        self._waker.setblocking(False)
        self._waker_in.setblocking(False)
        self._waits = False
        self._interrupted = False
        self._closed = threading.Event()
        self._pulse: threading.Thread | None = None

    # -- called from any thread

    def ack(self, queue: str, entry_id: bytes) -> None:
        """Acknowledge a message. The ack is sent with the next read, or at once while a read blocks."""
        self._acks.append((queue, entry_id))
        if self._waits:
            self._wake()

    def interrupt(self) -> None:
        """Make the `poll` that waits, or else the next one, return at once."""
        self._interrupted = True
        self._wake()

    # -- called on the reading thread

    def poll(self, queues: Collection[str], count: int, timeout_s: float) -> tuple[list[Entry], bool]:
        """Return new messages, at most `count` of each queue, and whether `interrupt` ended the wait.

        There are none after `timeout_s`, or earlier when another thread has acked: then there may be room for more. Without
        queues, `poll` only sends acks.
        """
        deadline = time.monotonic() + timeout_s
        wanted = frozenset(queues)
        entries = self._take_over_if_due(wanted, count)
        if not entries and self._replies_due and self._reading != wanted:
            entries = self.cancel_read()
        if not entries:
            self._send(wanted, count, deadline)
            entries = self._receive(deadline)
        # If this call brings messages, an interrupt is left for the next call.
        return entries, not entries and self._take_interrupt()

    def cancel_read(self) -> list[Entry]:
        """End the read in flight; return the messages that it brought at the last moment."""
        if not any(self._replies_due):
            return []
        entries: list[Entry] = []
        until = time.monotonic() + self._reads.timeout_s
        while self._replies_due:
            if time.monotonic() > until:
                self._lose_reads()
            reply = self._reads.try_read()
            if reply is not NO_REPLY:
                entries.extend(self._consume(reply))
                continue
            # The server may receive this before the read, so repeat it until the read has ended.
            self._commands.call("CLIENT", "UNBLOCK", self._reads.client_id)
            self._reads.wait_readable(0.02)
        return entries

    def flush(self) -> None:
        """Send the acks now."""
        commands = self._ack_commands()
        if commands:
            self._commands.pipeline(commands)

    def requeue(self, held: Mapping[str, Sequence[bytes]]) -> None:
        """Put messages at the end of their queue, marked as redelivered; `held` has their ids by queue."""
        for command in self._say.requeue(held):
            self._commands.call(*command)

    def get(self, queue: str) -> Entry | None:
        """Return one message of the queue, or None; don't wait."""
        self.use(queue)
        self.flush()
        try:
            reply = self._commands.call(*self._say.read([queue], 1))
        except ServerRefused as error:
            if not str(error).startswith(GONE):
                raise
            self._on_gone()
            return None
        found = self._say.entries_of(reply) or self._take_over_if_due({queue}, 1)
        return found[0] if found else None

    def use(self, queue: str, *, expires_ms: int = 0) -> None:
        """Begin to read the queue: say that this consumer lives, and keep a queue that expires from expiring."""
        if queue in self._used:
            return
        self._used[queue] = expires_ms
        self._next_takeover = 0.0
        self.beat()
        # Redis 7.0 does not list a consumer before its first message, so others would think that the queue is unused.
        self._commands.pipeline([("XGROUP", "CREATECONSUMER", self._keys.stream(queue), GROUP, self.name)])
        if self._pulse is None:
            reader = weakref.ref(self)
            self._pulse = threading.Thread(
                target=keep_alive, args=(reader, self._closed), name="taskflow-broker-pulse", daemon=True
            )
            self._pulse.start()

    def beat(self) -> None:
        """Say that this consumer lives, for another `claim_idle_ms`."""
        commands: list[Command] = [self._say.show_alive()]
        expiring = [(queue, ms) for queue, ms in self._used.copy().items() if ms]
        commands.extend(("PEXPIRE", self._keys.stream(queue), ms) for queue, ms in expiring)
        self._commands.pipeline(commands)

    def beat_interval_s(self) -> float:
        shortest_ms = min([self._claim_idle_ms, *(ms for ms in self._used.copy().values() if ms)])
        return max(shortest_ms / 3000, 0.05)

    def leave(self, queue: str) -> int:
        """Stop reading the queue; return the number of its other live consumers."""
        self._used.pop(queue, None)
        return int(self._commands.call(*self._say.leave(queue)))

    def close(self) -> None:
        """Send the acks and leave all queues. Raises ServerLost if the server is gone, but closes in any case."""
        try:
            self.flush()
            for queue in list(self._used):
                self.leave(queue)
            if self._pulse is not None:
                self._commands.call(*self._say.say_goodbye())
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close without telling the server: after a fork, or when the server is gone."""
        self._closed.set()
        self._reads.close()
        self._waker.close()
        self._waker_in.close()

    # -- inside

    def _send(self, wanted: frozenset[str], count: int, deadline: float) -> None:
        if self._replies_due or not wanted:
            self.flush()
            return
        if not self._reads.is_connected:
            self._reads.connect()
        commands = self._ack_commands()
        self._replies_due.extend(False for _ in commands)
        block_s = min(deadline - time.monotonic(), BLOCK_S)
        block_ms = max(int(block_s * 1000), 1) if block_s > 0 else 0
        commands.append(self._say.read(list(wanted), count, block_ms=block_ms))
        self._replies_due.append(True)
        self._reading, self._reading_blocks = wanted, bool(block_ms)
        self._read_until = time.monotonic() + max(block_s, 0) + self._reads.timeout_s
        self._reads.send(commands)

    def _receive(self, deadline: float) -> list[Entry]:
        """Wait for the read in flight, another thread's ack, an interrupt, or the time of the next takeover."""
        while self._replies_due:
            reply = self._reads.try_read() if self._reading_blocks else self._reads.read(self._read_until)
            if reply is NO_REPLY:
                break
            entries = self._consume(reply)
            if entries or not self._replies_due:
                return entries
        self._waits = True
        try:
            if self._acks or self._interrupted:
                self._drain_waker()
                return []
            self._wait(deadline)
        finally:
            self._waits = False
        if not self._replies_due:
            return []
        reply = self._reads.try_read()
        if reply is not NO_REPLY:
            return self._consume(reply)
        if time.monotonic() >= self._read_until:
            self._lose_reads()
        return []

    def _wait(self, deadline: float) -> None:
        until = deadline
        poll = select.poll()
        poll.register(self._waker, select.POLLIN)
        if self._replies_due:
            until = min(until, self._next_takeover, self._read_until)
            poll.register(self._reads, select.POLLIN)
        timeout_ms = (until - time.monotonic()) * 1000
        if poll.poll(max(timeout_ms, 0)):
            self._drain_waker()

    def _consume(self, reply: Any) -> list[Entry]:
        is_read = self._replies_due.popleft()
        if isinstance(reply, hiredis.ReplyError):
            if not str(reply).startswith(GONE):
                raise ServerRefused(str(reply)) from reply
            self._on_gone()
            self.beat()
            return []
        return self._say.entries_of(reply) if is_read else []

    def _lose_reads(self) -> None:
        self._reads.close()
        raise ServerLost(f"lost the connection to {self._reads.address}: no answer to a read in time")

    def _ack_commands(self) -> list[Command]:
        done: list[tuple[str, bytes]] = []
        while True:
            try:
                done.append(self._acks.popleft())
            except IndexError:
                break
        return self._say.acks(by_queue(done))

    def _take_over_if_due(self, queues: Collection[str], count: int) -> list[Entry]:
        if not queues or time.monotonic() < self._next_takeover:
            return []
        interval_s = min(max(self._claim_idle_ms / 4000, 1.0), 10.0)
        self._next_takeover = time.monotonic() + interval_s
        ordered = list(queues)
        command = self._say.take_over(ordered, count, predecessors=self._predecessors)
        reply = self._commands.call(*command)
        if any(len(found) >= count for found in reply):
            self._next_takeover = 0.0  # there may be more messages to take over
        return self._say.taken_of(ordered, reply)

    def _take_interrupt(self) -> bool:
        interrupted, self._interrupted = self._interrupted, False
        return interrupted

    def _wake(self) -> None:
        # If the pipe is full, the reader is awake already; if it is closed, nobody reads any more.
        with contextlib.suppress(OSError):
            self._waker_in.send(b"w")

    def _drain_waker(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._waker.recv(4096)


def keep_alive(reader_ref: weakref.ref[StreamReader], closed: threading.Event) -> None:
    """Say again and again that the consumer lives, on a thread of its own: the reading thread may be busy in a handler."""
    while True:
        reader = reader_ref()
        if reader is None:
            return
        interval_s = reader.beat_interval_s()
        # Keep no reference: otherwise a connection that nobody closed would live, and hold its messages, for ever.
        del reader
        if closed.wait(interval_s):
            return
        reader = reader_ref()
        if reader is None:
            return
        try:
            reader.beat()
        except (ServerLost, ServerRefused):
            return  # the reading thread will meet the same error, and can raise it
