"""The consumer of a process with an event loop: on the loop itself for our streams, on a thread for every other transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from kombu.entity import Queue

from taskflow.broker.consumer import Consumer, Delivery
from taskflow.broker.streams.consumer import StreamConsumer
from taskflow.broker.urls import serves_streams


class LoopConsumer(Protocol):
    """Calls `on_deliveries` on the loop in which it was made; for that loop's thread only."""

    @property
    def last_poll_ms(self) -> int:
        """When the broker last answered, or was seen to be idle; 0 before."""
        ...

    async def open(self, timeout_s: float) -> None:
        """Return when it consumes. Raises BrokerUnavailable, with the reason, when it doesn't in time."""
        ...

    def ack(self, deliveries: Sequence[Delivery]) -> None: ...

    def reject(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None: ...

    def pause(self, queue_name: str) -> None: ...

    def resume(self, queue_name: str) -> None: ...

    async def close(self, timeout_s: float) -> None:
        """Send the acks, give back at once what is not acked."""
        ...


class ThreadedConsumer(Consumer):
    """A `Consumer` whose thread hands over to the loop."""

    def __init__(
        self,
        url: str,
        *,
        queues: Sequence[Queue],
        on_deliveries: Callable[[list[Delivery]], None],
        prefetch: int,
        name: str,
    ) -> None:
        self.loop = loop = asyncio.get_running_loop()

        def hand_over(deliveries: list[Delivery]) -> None:
            loop.call_soon_threadsafe(on_deliveries, deliveries)

        super().__init__(url, queues=queues, on_deliveries=hand_over, prefetch=prefetch, name=name)

    async def open(self, timeout_s: float) -> None:
        self.start()
        await self.loop.run_in_executor(None, self.wait_ready, timeout_s)

    async def close(self, timeout_s: float) -> None:
        await self.loop.run_in_executor(None, self.stop, timeout_s)


def new_consumer(
    url: str,
    *,
    queues: Sequence[Queue],
    on_deliveries: Callable[[list[Delivery]], None],
    prefetch: int,
    name: str,
) -> LoopConsumer:
    """A consumer that isn't open yet. Raises ConfigError for a URL that can't be used."""
    kind = StreamConsumer if serves_streams(url) else ThreadedConsumer
    return kind(url, queues=queues, on_deliveries=on_deliveries, prefetch=prefetch, name=name)
