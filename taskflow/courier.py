"""Courier: tells the broker of queues with ready runs, and of events in the outbox, when a script of the store asks for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any

from taskflow.broker.publisher import AsyncPublisher
from taskflow.errors import BrokerUnavailable
from taskflow.event import pack_messages
from taskflow.store.hints import Hint, WorkHint, events_of, queues_of

logger = logging.getLogger("taskflow")


class Courier:
    """Tells the broker of ready runs (work messages) and of the events in the outbox.

    Beat sends the messages that did not get through (S9.2), so a failure only costs time; it is logged once an outage.
    `clear_outbox` takes published events, by their uids, out of the outbox.
    """

    def __init__(
        self, publisher: AsyncPublisher, clear_outbox: Callable[[list[str]], Awaitable[object]]
    ) -> None:
        self.publisher = publisher
        self.clear_outbox = clear_outbox
        self.tasks: set[asyncio.Task[None]] = set()
        self.is_down = False

    async def tell(self, hints: Sequence[Hint]) -> None:
        """Send the hints; return when the broker has them, or is found to be away."""
        try:
            await self.deliver(hints)
        except BrokerUnavailable as error:
            self.log_outage(error)
        else:
            self.is_down = False

    async def deliver(self, hints: Sequence[Hint]) -> None:
        """Send the work messages, publish the events, and take the events out of the outbox. Raises BrokerUnavailable."""
        for app_id, queues in queues_of(hints).items():
            await self.publisher.publish_work(queues, app_id=app_id)
        if events := events_of(hints):
            await self.publish_events([event for _, event in events])
            await self.clear_outbox([uid for uid, _ in events])

    async def publish_events(self, events: Sequence[bytes]) -> None:
        """Publish events that are not in the outbox. Raises BrokerUnavailable."""
        await self.publisher.publish_events(pack_messages(events))

    # --- in the background ---

    def send_work(self, hints: Sequence[Hint]) -> None:
        """Send the hints in the background; events don't wait for work messages."""
        events = events_of(hints)
        if len(events) < len(hints):
            self.spawn(self.deliver([hint for hint in hints if isinstance(hint, WorkHint)]))
        if events:
            self.spawn(self.deliver(events))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        # A clean context, so that a message for a step's commit does not belong to that run, and does not end with it.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self.tasks.add(task)
        task.add_done_callback(self.finished)

    def finished(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, BrokerUnavailable):
            self.log_outage(error)
        elif error is not None:
            logger.error("publishing failed", exc_info=error)
        else:
            self.is_down = False

    def log_outage(self, error: BrokerUnavailable) -> None:
        if not self.is_down:
            logger.warning(
                "%s The work messages are not lost: beat sends them when the broker is back.", error
            )
        self.is_down = True

    async def flush(self) -> None:
        """Wait until all background sends have ended."""
        while self.tasks:
            await asyncio.gather(*self.tasks, return_exceptions=True)
