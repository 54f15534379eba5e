"""What the tests of the brokers share: a consumer that keeps what it gets, and waiting with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from taskflow.broker.consumer import Consumer
from taskflow.broker.streams.bindings import DEFAULT_KEY_PREFIX, BoundQueue
from taskflow.broker.streams.entry import Delivery
from taskflow.broker.topology import Topology


def wait_until(condition: Callable[[], object], *, description: str, timeout_s: float = 15.0) -> None:
    """Look every few ms until it holds. Fails the test, with the description, if it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {description}")
        time.sleep(0.002)


class Acks(Protocol):
    """What a consumer does with what is done."""

    def ack(self, deliveries: Sequence[Delivery]) -> None: ...


class Kept:
    """Keeps what a consumer hands over, and acks it unless told otherwise."""

    def __init__(self, *, acks: bool) -> None:
        self.acks = acks
        self.deliveries: list[Delivery] = []

    def keep(self, deliveries: list[Delivery], consumer: Acks) -> None:
        self.deliveries.extend(deliveries)
        if self.acks:
            consumer.ack(deliveries)

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.deliveries]

    def wait_for(self, count: int, *, timeout_s: float = 15.0) -> list[Delivery]:
        wait_until(
            lambda: len(self.deliveries) >= count, description=f"{count} deliveries", timeout_s=timeout_s
        )
        return self.deliveries


class Inbox(Kept):
    """Consumes an app's events, or other `queues`, on a thread."""

    def __init__(
        self,
        url: str,
        app_id: str = "",
        *,
        queues: Sequence[BoundQueue] = (),
        acks: bool = True,
        prefetch: int = 500,
        key_prefix: str = DEFAULT_KEY_PREFIX,
    ) -> None:
        super().__init__(acks=acks)
        self.consumer = Consumer(
            url,
            queues=list(queues) or [Topology().events_queue(app_id)],
            on_deliveries=lambda deliveries: self.keep(deliveries, self.consumer),
            prefetch=prefetch,
            key_prefix=key_prefix,
        )

    def __enter__(self) -> Self:
        self.consumer.start()
        self.consumer.wait_ready(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.consumer.stop(10)
