"""Intake: takes a worker process's broker messages; it routes events, and looks for work when a work message comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

import orjson

from taskflow.broker.streams.entry import Delivery
from taskflow.broker.topology import Topology
from taskflow.engine.executor import Executor
from taskflow.errors import StoreUnavailable
from taskflow.routing.known import UnreadableFunctions
from taskflow.routing.router import Receipt, Router
from taskflow.store.store import Store
from taskflow.values.clock import Clock

logger = logging.getLogger("taskflow.worker")

FULL_PATIENCE_S = 0.02  # how long a work message may wait here for a slot before it goes to another process

MIN_MESSAGE_BYTES = 4 * 1024 * 1024  # a smaller message is never refused for its size
MAX_REFUSED_BYTES = 64 * 1024  # how much of a refused message is kept as a dead letter


class Acknowledger(Protocol):
    """The methods of the consumer that the intake needs; for the loop's thread."""

    def ack(self, deliveries: Sequence[Delivery]) -> None: ...

    def reject(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None: ...

    def pause(self, queue_name: str) -> None: ...

    def resume(self, queue_name: str) -> None: ...


class Intake:
    """Takes deliveries on the loop's thread."""

    def __init__(
        self,
        *,
        app_id: str,
        queues: Sequence[str],
        topology: Topology,
        max_event_bytes: int,
        executor: Executor,
        router: Router,
        store: Store,
        clock: Clock,
        consumer: Acknowledger,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.executor = executor
        self.router = router
        self.store = store
        self.clock = clock
        self.consumer = consumer
        self.work_queues = {topology.work_queue(app_id, queue).name: queue for queue in queues}
        self.events_queue = topology.events_queue(app_id).name
        self.broker_queues = [self.events_queue, *self.work_queues]
        # One event, or several that are small, and an event around one of them; the sender may allow more than this worker does.
        self.max_message_bytes = max(4 * max_event_bytes, MIN_MESSAGE_BYTES)
        self.is_listening = True
        self.takes_events = True
        self.paused: set[str] = set()  # work queues (broker names) that wait for a free slot here
        self.held: dict[str, list[Delivery]] = {}  # work messages that wait FULL_PATIENCE_S for a slot
        self.tasks: dict[asyncio.Task[None], list[Delivery]] = {}  # of what they handle
        executor.on_slot_free = self.slot_is_free

    def take(self, deliveries: list[Delivery]) -> None:
        """Handle the messages that one poll of the broker brought."""
        if not self.is_listening:  # received before the pause
            self.consumer.reject(deliveries, requeue=True)
            return
        events: list[Delivery] = []
        for delivery in deliveries:
            queue = self.work_queues.get(delivery.queue)
            if delivery.problem or len(delivery.body) > self.max_message_bytes:
                self.refuse(delivery, delivery.problem or self.too_large(delivery))
            elif queue is None:
                events.append(delivery)
            else:
                self.take_work(delivery, queue)
        if events and not self.takes_events:  # received before the pause
            self.consumer.reject(events, requeue=True)
        elif events:
            receipt = self.router.take([delivery.body for delivery in events])
            self.spawn(self.settle(events, receipt), events)

    def spawn(self, work: Coroutine[Any, Any, None], deliveries: list[Delivery]) -> None:
        task = self.loop.create_task(work)
        self.tasks[task] = deliveries
        task.add_done_callback(self.tasks.pop)

    async def settle(self, deliveries: Sequence[Delivery], receipt: Receipt) -> None:
        """Wait until messages of events are routed; each is acknowledged once its events are in the store (S9.1)."""
        outcomes = await self.router.settle(receipt)
        done: list[Delivery] = []
        for delivery, outcome in zip(deliveries, outcomes, strict=True):
            if outcome is None:
                done.append(delivery)
            elif isinstance(outcome, StoreUnavailable | UnreadableFunctions | asyncio.CancelledError):
                self.consumer.reject([delivery], requeue=True)
            else:
                await self.keep_dead_letter(delivery, outcome)
                done.append(delivery)
        if done:
            self.consumer.ack(done)

    async def keep_dead_letter(self, delivery: Delivery, error: BaseException) -> None:
        """Keep a message that makes the router fail, so that it neither comes back for ever nor is lost."""
        logger.error("routing a message failed; it is kept: taskflow dead-letters", exc_info=error)
        reason = f"{type(error).__name__}: {error}"
        await self.store.history.keep_dead_letter(delivery.body, reason, now_ms=self.clock.now_ms())

    def take_work(self, delivery: Delivery, queue: str) -> None:
        if not is_work_message(delivery.body, queue):
            self.refuse(delivery, "no work message")
        elif self.executor.is_draining:
            self.consumer.reject([delivery], requeue=True)
        elif self.executor.slots.free > 0:
            self.consumer.ack([delivery])
            self.executor.look_for_work(queue, by_hint=True)
        else:
            waiting = self.held.setdefault(delivery.queue, [])
            waiting.append(delivery)
            if len(waiting) == 1:
                self.loop.call_later(FULL_PATIENCE_S, self.pass_on, delivery.queue)

    def too_large(self, delivery: Delivery) -> str:
        return (
            f"it has {len(delivery.body):,} bytes, but with this worker's max_event_bytes no message has more than "
            f"{self.max_message_bytes:,}"
        )

    def refuse(self, delivery: Delivery, reason: str) -> None:
        logger.error("a broker message can't be read (%s); it is kept: taskflow dead-letters", reason)
        self.spawn(self.keep(delivery, reason), [delivery])

    async def keep(self, delivery: Delivery, reason: str) -> None:
        body = delivery.body
        if len(body) > MAX_REFUSED_BYTES:
            reason = f"{reason}; of its {len(body):,} bytes the first {MAX_REFUSED_BYTES:,} are kept"
        await self.store.history.keep_dead_letter(
            body[:MAX_REFUSED_BYTES], reason, now_ms=self.clock.now_ms()
        )
        self.consumer.ack([delivery])

    def pass_on(self, broker_queue: str) -> None:
        """Give the messages of a queue to another process, as no slot has come free; listen again when one does."""
        deliveries = self.held.pop(broker_queue, None)
        if not deliveries:
            return
        self.paused.add(broker_queue)
        self.consumer.pause(broker_queue)
        self.consumer.reject(deliveries, requeue=True)

    def listen(self, is_listening: bool) -> None:
        """Take messages, or leave them all to other processes: this one may not claim, or can't reach the store.

        Events that it can't route now go back too. It does no harm if they are routed here as well, later.
        """
        self.is_listening = is_listening
        if is_listening:
            if self.executor.slots.free > 0:
                self.paused.clear()
            for broker_queue in self.broker_queues:
                if broker_queue not in self.paused and (
                    self.takes_events or broker_queue != self.events_queue
                ):
                    self.consumer.resume(broker_queue)
            return
        for broker_queue in self.broker_queues:
            self.consumer.pause(broker_queue)
        for deliveries in (*self.held.values(), *self.tasks.values()):
            self.consumer.reject(deliveries, requeue=True)
        self.held.clear()

    def take_events(self, takes_events: bool) -> None:
        """Take events, or leave them to processes that can read all functions (S2.7)."""
        if takes_events is self.takes_events:
            return
        self.takes_events = takes_events
        if not takes_events:
            self.consumer.pause(self.events_queue)
        elif self.is_listening:
            self.consumer.resume(self.events_queue)

    def slot_is_free(self) -> None:
        if self.held:
            held, self.held = self.held, {}
            for broker_queue, deliveries in held.items():
                self.consumer.ack(deliveries)
                self.executor.look_for_work(self.work_queues[broker_queue], by_hint=True)
        if self.paused and self.is_listening:
            paused, self.paused = self.paused, set()
            for broker_queue in paused:
                self.consumer.resume(broker_queue)

    async def finish(self) -> None:
        """Wait until all messages that came in are routed, and acknowledged or given back."""
        for broker_queue in list(self.held):
            self.pass_on(broker_queue)
        while self.tasks:
            await asyncio.gather(*self.tasks, return_exceptions=True)


def is_work_message(body: bytes, queue: str) -> bool:
    try:
        message = orjson.loads(body)
    except ValueError:
        return False
    return isinstance(message, dict) and message.get("queue") == queue
