"""Consumer: receives the messages of queues over kombu, on a thread of its own. Rules S9.5, S9.9."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from taskflow.broker.failure import reason_of
from taskflow.broker.link import Link, new_link
from taskflow.broker.streams.bindings import DEFAULT_KEY_PREFIX, BoundQueue
from taskflow.broker.streams.entry import Delivery, find_problem
from taskflow.errors import BrokerUnavailable
from taskflow.redis.address import redact
from taskflow.values.backoff import backoff_s
from taskflow.values.clock import Clock, SystemClock

logger = logging.getLogger(__name__)

POLL_S = 5.0
"""The longest wait for messages. Its end shows that the thread lives (`last_poll_ms`)."""

CALLBACK_RETRY_S = 1.0


class Consumer:
    """Receives messages and calls `on_deliveries`, on its own thread, with the list that one poll of the broker brought.

    It reconnects for ever, and declares the queues each time. After a loss the broker delivers again all messages that were not
    acked; acks and rejects of the earlier deliveries are ignored then. An exception of `on_deliveries` is logged, and its messages
    go back to the queue. No other consumer ever has its `name`, by which its messages are released when it is dead; see `release`.
    """

    def __init__(
        self,
        url: str,
        *,
        queues: Sequence[BoundQueue],
        on_deliveries: Callable[[list[Delivery]], None],
        prefetch: int = 500,
        name: str = "",
        key_prefix: str = DEFAULT_KEY_PREFIX,
        clock: Clock | None = None,
    ) -> None:
        self.url = url
        self.connected = False
        # when the broker last answered, or a poll ended without messages; 0 before the first
        self.last_poll_ms = 0
        self._queues = list(queues)
        self._on_deliveries = on_deliveries
        self._prefetch = prefetch
        self._clock = clock or SystemClock()
        self._link: Link = new_link(
            url,
            name=name,
            key_prefix=key_prefix,
            on_message=self._receive,
            on_decode_error=self._receive_unreadable,
        )
        self._received: list[Delivery] = []
        self._orders: deque[Callable[[], None]] = deque()
        self._paused: set[str] = set()
        self._failures = 0
        self._error: BaseException | None = None
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._stop_timeout_s = 5.0
        self._thread = threading.Thread(target=self._run, name="taskflow-consumer", daemon=True)

    # -- called from any thread

    def start(self) -> None:
        """Start the thread. It connects in the background; see `wait_ready`."""
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until the consumer consumes. Raises BrokerUnavailable, with the reason, after `timeout_s`."""
        if not self._ready.wait(timeout_s):
            error = self._error or TimeoutError("it gave no answer")
            raise BrokerUnavailable(
                f"no connection to the broker {redact(self.url)} within {timeout_s:g} s: "
                f"{reason_of(error, self.url)}. The consumer goes on trying. Check that the broker runs, that this "
                "machine reaches it, and the user and password."
            ) from error

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge messages that are done. The consumer's thread does it, within a millisecond or so."""
        messages = [delivery.message for delivery in deliveries]
        self._order(lambda: self._link.ack(messages))

    def reject(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        """Give messages back to their queues, or drop them."""
        messages = [delivery.message for delivery in deliveries]
        self._order(lambda: self._link.reject(messages, requeue=requeue))

    def pause(self, queue_name: str) -> None:
        """Receive no more messages from this queue; messages that are rejected afterwards go to other consumers."""
        self._order(lambda: self._pause(queue_name))

    def resume(self, queue_name: str) -> None:
        self._order(lambda: self._resume(queue_name))

    def stop(self, timeout_s: float) -> None:
        """Send the acks, give back the messages that are not acked, and end the thread."""
        self._stop_timeout_s = timeout_s
        self._stopping.set()
        self._link.wake()
        if self._thread.ident is None:  # never started
            self._link.close(timeout_s=timeout_s)
        elif self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            logger.warning(
                "the consumer of %s did not stop within %.1f s; the broker gives its messages to others later",
                redact(self.url),
                timeout_s,
            )

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs; `last_poll_ms` says whether it gets on."""
        return self._thread.is_alive()

    # -- called on the consumer's thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._link.open(self._queues, prefetch=self._prefetch, paused=self._paused)
                self._on_connected()
                self._consume()
            except BaseException as error:
                self._on_lost(error)
                self._stopping.wait(backoff_s(self._failures, random.random()))
        self._close()

    def _consume(self) -> None:
        while not self._stopping.is_set():
            self._follow_orders()
            # Not empty when AMQP delivered messages while we waited for the answer to a declare or cancel.
            if not self._received:
                self._link.poll(POLL_S)
            self.last_poll_ms = self._clock.now_ms()
            if self._received:
                self._hand_over()

    def _hand_over(self) -> None:
        deliveries, self._received = self._received, []
        try:
            self._on_deliveries(deliveries)
        except BaseException:  # not even a SystemExit may end the thread unnoticed
            logger.exception(
                "%d messages of %s could not be handed over; they go back to the queue",
                len(deliveries),
                redact(self.url),
            )
            # wait first: the messages come again at once, maybe to this consumer
            self._stopping.wait(CALLBACK_RETRY_S)
            self._reject(deliveries, requeue=True)

    def _receive(self, queue_name: str, message: Any) -> None:
        problem = find_problem(message.content_type, message.content_encoding, message.headers)
        self._received.append(to_delivery(queue_name, message, problem=problem))

    def _receive_unreadable(self, queue_name: str, message: Any, error: Exception) -> None:
        problem = f"{type(error).__name__}: {error}"
        self._received.append(to_delivery(queue_name, message, problem=problem))

    def _order(self, action: Callable[[], None]) -> None:
        self._orders.append(action)
        if threading.current_thread() is not self._thread:
            self._link.wake()

    def _follow_orders(self) -> None:
        while self._orders:
            self._orders.popleft()()

    def _reject(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        self._link.reject([delivery.message for delivery in deliveries], requeue=requeue)

    def _pause(self, queue_name: str) -> None:
        self._paused.add(queue_name)
        if self.connected:
            self._link.cancel(queue_name)

    def _resume(self, queue_name: str) -> None:
        self._paused.discard(queue_name)
        if self.connected:
            self._link.consume(queue_name)

    def _on_connected(self) -> None:
        if self._failures:
            logger.warning("the broker %s is back after %d tries", redact(self.url), self._failures)
        self._failures, self._error = 0, None
        self.connected = True
        self.last_poll_ms = self._clock.now_ms()
        self._ready.set()

    def _on_lost(self, error: BaseException) -> None:
        if not self._failures:
            logger.warning(
                "no connection to the broker %s, trying until it is back: %s",
                redact(self.url),
                reason_of(error, self.url),
            )
        self._failures += 1
        self._error = error
        self.connected = False
        self._ready.clear()
        self._received.clear()
        self._link.abandon()

    def _close(self) -> None:
        try:
            if self.connected:
                self._follow_orders()
                self._reject(self._received, requeue=True)
        except Exception as error:
            logger.info("the broker was lost while stopping: %s", reason_of(error, self.url))
        self.connected = False
        self._ready.clear()
        self._link.close(timeout_s=self._stop_timeout_s)


def to_delivery(queue_name: str, message: Any, *, problem: str = "") -> Delivery:
    body = message.body
    encoded = body.encode() if isinstance(body, str) else bytes(body or b"")
    return Delivery(queue_name, encoded, bool(message.delivery_info.get("redelivered")), message, problem)


class ThreadedConsumer(Consumer):
    """A `Consumer` for a process with an event loop: `on_deliveries` is called on that loop."""

    def __init__(
        self,
        url: str,
        *,
        queues: Sequence[BoundQueue],
        on_deliveries: Callable[[list[Delivery]], None],
        prefetch: int,
        name: str,
        key_prefix: str,
    ) -> None:
        self.loop = loop = asyncio.get_running_loop()

        def hand_over(deliveries: list[Delivery]) -> None:
            loop.call_soon_threadsafe(on_deliveries, deliveries)

        super().__init__(
            url, queues=queues, on_deliveries=hand_over, prefetch=prefetch, name=name, key_prefix=key_prefix
        )

    async def open(self, timeout_s: float) -> None:
        self.start()
        await self.loop.run_in_executor(None, self.wait_ready, timeout_s)

    async def close(self, timeout_s: float) -> None:
        await self.loop.run_in_executor(None, self.stop, timeout_s)
