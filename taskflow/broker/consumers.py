"""The consumer of a process with an event loop: on the loop itself for our streams, on a thread for every other transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from taskflow.broker.streams.bindings import DEFAULT_KEY_PREFIX, BoundQueue
from taskflow.broker.streams.consumer import StreamConsumer
from taskflow.broker.streams.entry import Delivery
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


def new_consumer(
    url: str,
    *,
    queues: Sequence[BoundQueue],
    on_deliveries: Callable[[list[Delivery]], None],
    prefetch: int,
    name: str,
    key_prefix: str = DEFAULT_KEY_PREFIX,
) -> LoopConsumer:
    """A consumer that isn't open yet. `key_prefix` is that of a Redis or Valkey's keys, unless the URL has another.

    Raises ConfigError for a URL that can't be used."""
    if serves_streams(url):
        return StreamConsumer(
            url,
            queues=queues,
            on_deliveries=on_deliveries,
            prefetch=prefetch,
            name=name,
            key_prefix=key_prefix,
        )
    from taskflow.broker.consumer import ThreadedConsumer  # only those pay for kombu's import who use it

    return ThreadedConsumer(
        url, queues=queues, on_deliveries=on_deliveries, prefetch=prefetch, name=name, key_prefix=key_prefix
    )
