"""Makes the consumer of a process with an event loop: on the loop itself for our streams, on a thread for other transports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from taskflow.broker.streams.bindings import DEFAULT_KEY_PREFIX, BoundQueue
from taskflow.broker.streams.consumer import StreamConsumer
from taskflow.broker.streams.entry import Delivery
from taskflow.broker.urls import serves_streams


class LoopConsumer(Protocol):
    """A consumer that calls `on_deliveries` on the loop in which it was made. Its methods are for that loop's thread only."""

    @property
    def last_poll_ms(self) -> int:
        """When (ms since epoch) the broker last answered, or a poll ended without messages; 0 before the first."""
        ...

    @property
    def connected(self) -> bool:
        """Whether it has its connections to the broker, as far as it has noticed."""
        ...

    async def open(self, timeout_s: float) -> None:
        """Wait until the consumer consumes. Raises BrokerUnavailable, with the reason, after `timeout_s`."""
        ...

    def ack(self, deliveries: Sequence[Delivery]) -> None: ...

    def reject(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None: ...

    def pause(self, queue_name: str) -> None: ...

    def resume(self, queue_name: str) -> None: ...

    async def close(self, timeout_s: float) -> None:
        """Send the acks, give back the messages that are not acked, and close."""
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
    """A consumer that isn't open yet. `key_prefix`: of the keys in a Redis or Valkey, unless the URL names another.

    Raises ConfigError for a URL that can't be used.
    """
    if serves_streams(url):
        return StreamConsumer(
            url,
            queues=queues,
            on_deliveries=on_deliveries,
            prefetch=prefetch,
            name=name,
            key_prefix=key_prefix,
        )
    # Imported here, so that only users of kombu pay for its import.
    from taskflow.broker.consumer import ThreadedConsumer

    return ThreadedConsumer(
        url, queues=queues, on_deliveries=on_deliveries, prefetch=prefetch, name=name, key_prefix=key_prefix
    )
