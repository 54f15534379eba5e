"""What a worker process says to the broker: work messages, events of steps, events of the outbox."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextvars import Context
from typing import Any

from taskflow.broker.publisher import AsyncPublisher
from taskflow.errors import BrokerUnavailable
from taskflow.event import pack_messages
from taskflow.store.claims import Hint, events_of, queues_of
from taskflow.store.store import Store

logger = logging.getLogger("taskflow.worker")


class BrokerMessenger:
    """Sends in the background. What fails is found again by the reaper (S9.2): it is logged once an outage."""

    def __init__(self, publisher: AsyncPublisher, store: Store) -> None:
        self.publisher = publisher
        self.store = store
        self.tasks: set[asyncio.Task[None]] = set()
        self.is_down = False

    def send_work(self, hints: Sequence[Hint]) -> None:
        """Send the work messages that a script asked for, and the events of the outbox that it wrote."""
        if queues := queues_of(hints):
            self.spawn(self.publish_work(queues))
        if events := events_of(hints):
            self.send_events(events)

    def send_events(self, events: Sequence[tuple[str, bytes]]) -> None:
        """Publish events of the outbox: (uid, event)."""
        self.spawn(self.publish_and_clear(events))

    async def publish_events(self, events: Sequence[bytes]) -> None:
        await self.publisher.publish_events(pack_messages(events))

    async def publish_work(self, queues: Mapping[str, Sequence[str]]) -> None:
        for app_id, names in queues.items():
            await self.publisher.publish_work(names, app_id=app_id)

    async def publish_and_clear(self, events: Sequence[tuple[str, bytes]]) -> None:
        """Publish events of the outbox, then take them out of it."""
        await self.publish_events([event for _, event in events])
        await self.store.routing.clear_outbox([uid for uid, _ in events])

    def spawn(self, work: Any) -> None:
        # A clean context: what a step's commit sends must not become part of that run, and end with it.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self.tasks.add(task)
        task.add_done_callback(self.finished)

    def finished(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, BrokerUnavailable):
            if not self.is_down:
                logger.warning("%s; beat sends what is missing once the broker is back", error)
            self.is_down = True
        elif error is not None:
            logger.error("publishing failed", exc_info=error)
        else:
            self.is_down = False

    async def flush(self) -> None:
        """Wait for what is under way."""
        while self.tasks:
            await asyncio.gather(*self.tasks, return_exceptions=True)
