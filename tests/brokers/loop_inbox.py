"""A `StreamConsumer` on a loop of its own, to be used from a test's thread as an `Inbox` is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from taskflow.broker.streams.bindings import DEFAULT_KEY_PREFIX, BoundQueue
from taskflow.broker.streams.consumer import StreamConsumer
from taskflow.broker.streams.entry import Delivery
from taskflow.broker.topology import Topology
from tests.brokers.inbox import Kept


class LoopConsumer:
    """The consumer's methods, each run on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, real: StreamConsumer) -> None:
        self.loop = loop
        self.real = real

    @property
    def connected(self) -> bool:
        return self.real.connected

    @property
    def last_poll_ms(self) -> int:
        return self.real.last_poll_ms

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.loop.call_soon_threadsafe(self.real.ack, list(deliveries))

    def reject(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        self.loop.call_soon_threadsafe(lambda: self.real.reject(list(deliveries), requeue=requeue))

    def pause(self, queue_name: str) -> None:
        self.loop.call_soon_threadsafe(self.real.pause, queue_name)

    def resume(self, queue_name: str) -> None:
        self.loop.call_soon_threadsafe(self.real.resume, queue_name)

    def stop(self, timeout_s: float) -> None:
        asyncio.run_coroutine_threadsafe(self.real.close(timeout_s), self.loop).result(timeout_s + 5)


class LoopInbox(Kept):
    """Consumes an app's events, or other `queues`, on a loop."""

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
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="loop-inbox")
        self.thread.start()

        async def make() -> StreamConsumer:
            return StreamConsumer(
                url,
                queues=list(queues) or [Topology().events_queue(app_id)],
                on_deliveries=lambda deliveries: self.keep(deliveries, self.consumer.real),
                prefetch=prefetch,
                key_prefix=key_prefix,
            )

        self.consumer = LoopConsumer(self.loop, self.run(make()))

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def open(self, timeout_s: float = 20.0) -> None:
        self.run(self.consumer.real.open(timeout_s))

    def __enter__(self) -> Self:
        try:
            self.open()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Take leave, and end the loop with all that is left on it."""

        async def finish() -> None:
            await self.consumer.real.close(10)
            await asyncio.get_running_loop().shutdown_default_executor()

        self.run(finish())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
