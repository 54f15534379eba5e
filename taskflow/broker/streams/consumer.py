"""StreamConsumer: consumes queues on Redis Streams on the event loop, without a thread. Rules S9.5, S9.9.

`Consumer` serves any kombu transport, but its thread has to be woken, and then has to wake the loop, which takes a while on an idle
machine. Here the loop itself waits for the stream. Declarations, commands and entries are those of `StreamsBroker`, so both kinds
of consumers may share a queue.

It has two connections: one blocks in XREADGROUP, the other does everything else. After a loss both are opened again, and commands
without a reply are sent again. If the lost reply had messages in it, they are read once more: the server notes them as held by this
consumer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from taskflow.broker.streams.acks import Acks, Held
from taskflow.broker.streams.bindings import DEFAULT_KEY_PREFIX, BoundQueue, StreamKeys, change, declarations
from taskflow.broker.streams.broker import StreamsOptions
from taskflow.broker.streams.commands import ConsumerCommands, by_queue
from taskflow.broker.streams.entry import Delivery, Entry, find_metadata_problem
from taskflow.broker.streams.scripts import loading_commands
from taskflow.errors import BrokerUnavailable, StoreUnavailable
from taskflow.redis.address import parse_server_url, redact
from taskflow.redis.client import StoreClient, describe
from taskflow.redis.connection import Argument, CommandError
from taskflow.values.backoff import backoff_s
from taskflow.values.clock import Clock, SystemClock

logger = logging.getLogger(__name__)

CLAIM_IDLE_MS = 8_000
"""After this time, and a quarter more, the messages of a dead host go to another one, so that S9.3 holds for events too.

Giving them away too early does no harm, since routing is idempotent. `claim_idle_ms` in the URL overrides it."""

BLOCK_S = 5.0
"""A read without messages ends after this long, which shows that the connection lives (`last_poll_ms`)."""

READ_COUNT = 250
"""The most messages of a queue in one read."""

GATHER_S = (0.001, 0.008)
"""The shortest and the longest pause after a read whose messages came together, or while another one is still routed: under load
each read then brings more, and a message costs less. Each pause is twice the one before, as long as messages come so: a burst waits
little, a stream longer.

A read that brought one message and found no other one here, as on an idle system or in a chain of runs, has no pause after it."""

INTERRUPT_S = 0.02
"""How often a read that is to end is told so, until it has ended."""


class Read:
    """An XREADGROUP under way. It receives its reply itself: a task that awaits a future would get it one loop turn later."""

    __slots__ = ("consumer",)

    def __init__(self, consumer: StreamConsumer) -> None:
        self.consumer = consumer

    def done(self) -> bool:
        return False

    def set_result(self, reply: Any) -> None:
        self.consumer.take_reply(reply)

    def set_exception(self, error: Exception) -> None:
        self.consumer.take_error(error)

    def exception(self) -> None:
        """Ignore the error: the consumer is closing."""


class StreamConsumer:
    """Receives messages and calls `on_deliveries` with the list that one read brought. For the loop's thread only.

    It reconnects for ever, and declares the queues again when they are gone. An exception of `on_deliveries` is logged, and its
    messages go back to the queue. No other consumer ever has its `name`, by which its messages are released when it is dead; see
    `release`.
    """

    def __init__(
        self,
        url: str,
        *,
        queues: Sequence[BoundQueue],
        on_deliveries: Callable[[list[Delivery]], None],
        prefetch: int = 500,
        name: str = "consumer",
        key_prefix: str = DEFAULT_KEY_PREFIX,
        clock: Clock | None = None,
    ) -> None:
        address = parse_server_url(url, what="broker")
        self.url = url
        self.queues = list(queues)
        self.on_deliveries = on_deliveries
        self.prefetch = prefetch
        self.name = f"{name}-{uuid.uuid4().hex[:12]}"
        self.clock = clock or SystemClock()
        self.last_poll_ms = 0  # when the broker last answered a read; 0 before the first
        self.options = StreamsOptions.of(
            {"key_prefix": key_prefix, "claim_idle_ms": CLAIM_IDLE_MS, **address.options}
        )
        keys = StreamKeys(self.options.key_prefix)
        self.say = ConsumerCommands(keys, self.name, claim_idle_ms=self.options.claim_idle_ms)
        self.loop = asyncio.get_running_loop()
        home_key = self.options.key_prefix
        self.reads = StoreClient(
            address, home_key=home_key, longest_wait_s=BLOCK_S, what="broker", log_level=logging.DEBUG
        )
        self.commands = StoreClient(address, home_key=home_key, on_connected=loading_commands, what="broker")
        self.held: dict[Held, None] = {}
        self.acks = Acks(self.say)
        self.paused: set[str] = set()
        self.plain: set[bytes] = set()  # metadata that was checked and is in order
        self.under_way: Read | None = None
        self.gathering: asyncio.TimerHandle | None = None  # the pause before the next read; see GATHER_S
        self.pause_s = 0.0  # how long the last one was; 0 for none
        self.is_mending = False
        self.failures = 0
        self.is_closing = False
        self.tasks: set[asyncio.Task[None]] = set()
        self.tending: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self.reads.connection is not None and self.commands.connection is not None

    async def open(self, timeout_s: float) -> None:
        """Wait until the consumer consumes. Raises BrokerUnavailable, with the reason, after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                for client in (self.commands, self.reads):
                    await client.connect(timeout_s=timeout_s)
                await asyncio.gather(self.declare(), self.show_alive())
        except Exception as error:
            await self.close_clients()
            cause = error.__cause__ if isinstance(error, StoreUnavailable) and error.__cause__ else error
            reason = "it was refused" if isinstance(cause, ConnectionRefusedError) else describe(cause)
            raise BrokerUnavailable(
                f"no connection to the broker {redact(self.url)} within {timeout_s:g} s: {reason}. "
                "Check that the broker runs, that this machine reaches it, and the user and password."
            ) from error
        self.reads.on_reconnect = lambda: self.spawn(self.recover())
        self.last_poll_ms = self.clock.now_ms()
        self.tending = self.loop.create_task(self.tend())
        self.read()

    async def declare(self) -> None:
        """Declare the queues with their exchanges and bindings."""
        await self.commands.call(*change(self.say.keys, declarations(self.say.keys, self.queues)))

    # --- reading ---

    def read(self) -> None:
        """Start a read, unless one is under way, there is no room for messages, or all queues are paused."""
        if (
            self.gathering is not None
            or self.under_way is not None
            or self.is_closing
            or self.is_mending
            or self.tending is None
        ):
            return
        names = self.listening()
        room = self.prefetch - len(self.held)
        if names and room > 0:
            self.under_way = Read(self)
            self.acks.send(self.reads)
            count = max(min(room, READ_COUNT) // len(names), 1)
            self.reads.send(self.under_way, *self.say.read(names, count, block_ms=int(BLOCK_S * 1000)))

    def listening(self) -> list[str]:
        """The queues that are not paused."""
        return [queue.name for queue in self.queues if queue.name not in self.paused]

    def take_reply(self, reply: Any) -> None:
        self.under_way = None
        self.last_poll_ms = self.clock.now_ms()
        self.failures = 0
        entries = self.say.entries_of(reply)
        self.pause_s = pause_after(len(entries), len(self.held), self.pause_s)
        if self.pause_s:
            self.gathering = self.loop.call_later(self.pause_s, self.gathered)
        if entries:
            self.deliver(entries)
        self.read()

    def gathered(self) -> None:
        self.gathering = None
        self.read()

    def take_error(self, error: Exception) -> None:
        self.under_way = None
        if isinstance(error, CommandError):  # otherwise `close` has closed the connection
            self.is_mending = True
            self.spawn(self.mend(str(error)))

    def deliver(self, entries: Iterable[Entry]) -> None:
        """Hand over the messages that are not held already. Messages of a queue that was paused meanwhile go back to it."""
        deliveries: list[Delivery] = []
        unwanted: list[Delivery] = []
        for entry in entries:
            held = (entry.queue, entry.entry_id)
            if held in self.held:
                continue
            self.held[held] = None
            delivery = self.unpack(entry, held)
            (unwanted if entry.queue in self.paused or self.is_closing else deliveries).append(delivery)
        if unwanted:
            self.reject(unwanted, requeue=True)
        if not deliveries:
            return
        try:
            self.on_deliveries(deliveries)
        except Exception:
            logger.exception(
                "%d messages of %s could not be handed over; they go back to the queue",
                len(deliveries),
                redact(self.url),
            )
            self.loop.call_later(1.0, lambda: self.reject(deliveries, requeue=True))

    def unpack(self, entry: Entry, held: Held) -> Delivery:
        """The delivery of an entry; it names the problem if taskflow can't have written the message. Few metadata are in use."""
        problem = ""
        if entry.metadata not in self.plain:
            problem = find_metadata_problem(entry.metadata)
            if not problem and len(self.plain) < 100:
                self.plain.add(entry.metadata)
        return Delivery(entry.queue, entry.body, entry.redelivered, held, problem)

    async def mend(self, refusal: str) -> None:
        """Declare the queues again after a refused read: a queue or its group is gone, by FLUSHALL for instance."""
        self.failures += 1
        if self.failures > 1:
            logger.warning("the broker %s refuses reads: %s", redact(self.url), refusal)
        if self.failures > 1:
            await asyncio.sleep(backoff_s(self.failures, 0.0))
        try:
            async with asyncio.timeout(BLOCK_S):
                await asyncio.gather(self.declare(), self.show_alive())
        except (TimeoutError, CommandError, StoreUnavailable) as failure:
            logger.info("the queues could not be declared again: %s", describe(failure))
        self.is_mending = False
        self.read()

    async def recover(self) -> None:
        """After a lost connection: take the messages that the server notes as held by this consumer, as a reply may be lost."""
        self.acks.send(self.commands)
        for queue in self.queues:
            # An error means that there is no stream; the next read will see that.
            with contextlib.suppress(CommandError, StoreUnavailable):
                command = self.say.read_held(queue.name, 2 * self.prefetch)
                self.deliver(self.say.held_of(await self.commands.call(*command)))

    async def end_read(self) -> None:
        """End the read under way, so that the next one follows the change of paused queues."""
        read = self.under_way
        while read is not None and self.under_way is read:
            # Repeated, since the server may receive this before the read.
            with contextlib.suppress(CommandError):
                await self.commands.call("CLIENT", "UNBLOCK", self.reads.client_id)
            if self.under_way is read:
                await asyncio.sleep(INTERRUPT_S)

    # --- settling ---

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge messages. Messages that this consumer doesn't hold are ignored."""
        if done := self.settle(deliveries):
            if not self.acks:
                self.loop.call_soon(self.send_acks)
            self.acks.add(done)

    def send_acks(self) -> None:
        # If the next read is due in a moment, the acks leave with it.
        if self.gathering is None:
            self.acks.send(self.commands)

    def reject(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        """Give messages back to their queues, or drop them."""
        if not requeue:
            self.ack(deliveries)
            return
        for command in self.say.requeue(by_queue(self.settle(deliveries))):
            self.tell(*command)

    def settle(self, deliveries: Sequence[Delivery]) -> list[Held]:
        """Forget the messages; return those that were held."""
        settled = []
        for delivery in deliveries:
            held: Held = delivery.message
            if held in self.held:
                del self.held[held]
                settled.append(held)
        self.read()
        return settled

    def pause(self, queue_name: str) -> None:
        """Receive no more messages from this queue; messages that are rejected afterwards go to other consumers."""
        if queue_name not in self.paused:
            self.paused.add(queue_name)
            self.spawn(self.end_read())

    def resume(self, queue_name: str) -> None:
        if queue_name in self.paused:
            self.paused.discard(queue_name)
            if self.under_way is None:
                self.read()
            else:
                self.spawn(self.end_read())

    # --- living ---

    async def tend(self) -> None:
        """Again and again, say that this consumer lives, and take over the messages of dead consumers."""
        interval_s = min(max(self.options.claim_idle_ms / 3200, 0.05), 10.0)
        while True:
            await asyncio.sleep(interval_s)
            try:
                await asyncio.gather(self.show_alive(), self.take_over())
            except (CommandError, StoreUnavailable) as error:
                logger.debug("the broker refused a sign of life: %s", error)

    async def show_alive(self) -> None:
        await self.commands.call(*self.say.show_alive())

    async def take_over(self) -> None:
        room = self.prefetch - len(self.held)
        names = self.listening()
        if room <= 0 or not names:
            return
        reply = await self.commands.call(*self.say.take_over(names, max(room // len(names), 1)))
        self.deliver(self.say.taken_of(names, reply))

    async def close(self, timeout_s: float) -> None:
        """Send the acks, give back the messages that are not acked, and leave the queues. Safe to repeat."""
        if self.is_closing:
            return
        self.is_closing = True
        try:
            async with asyncio.timeout(timeout_s):
                await self.leave()
        except (TimeoutError, CommandError, StoreUnavailable) as error:
            logger.warning(
                "the consumer of %s could not tell the broker that it leaves (%s); the broker gives its messages to others later",
                redact(self.url),
                describe(error),
            )
        finally:
            for task in (self.tending, *self.tasks):
                if task is not None:
                    task.cancel()
            await self.close_clients()

    async def leave(self) -> None:
        if self.tending is None:  # it was never open
            return
        await self.end_read()
        self.acks.send(self.commands)
        self.reject(
            [Delivery(queue, b"", True, (queue, entry_id)) for queue, entry_id in self.held], requeue=True
        )
        for queue in self.queues:
            await self.commands.call(*self.say.leave(queue.name))
        await self.commands.call(*self.say.say_goodbye())

    async def close_clients(self) -> None:
        for client in (self.reads, self.commands):
            await client.close()

    def tell(self, *command: Argument) -> None:
        """Send a command whose reply nobody needs: if it fails, its messages are only delivered again."""
        self.commands.call(*command).add_done_callback(asyncio.Future.exception)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


def pause_after(count: int, held: int, last_pause_s: float) -> float:
    """How long to wait after a read that brought `count` messages while `held` others were not acknowledged; see GATHER_S.

    0 for not at all: messages come one after another, or more of them lie ready.
    """
    if not count or count + held == 1 or count >= READ_COUNT:
        return 0.0
    shortest_s, longest_s = GATHER_S
    return min(max(2 * last_pause_s, shortest_s), longest_s)
