"""ProgressReports: writes what a task says of its progress, at most five times a second. Rule S15.2."""

from __future__ import annotations

import asyncio
from contextvars import Context as ContextVars

from taskflow.engine.owned import OwnedRun
from taskflow.errors import StoreUnavailable

PAUSE_S = 0.2


class ProgressReports:
    """The reports of one attempt. `report` may be called in any thread; of reports that come fast the last one counts."""

    __slots__ = ("is_pausing", "latest", "loop", "owned")

    def __init__(self, owned: OwnedRun, loop: asyncio.AbstractEventLoop) -> None:
        self.owned = owned
        self.loop = loop
        self.latest: bytes | None = None
        self.is_pausing = False

    def report(self, progress: bytes) -> None:
        """`progress` is JSON."""
        self.loop.call_soon_threadsafe(self.take, progress, context=ContextVars())

    def take(self, progress: bytes) -> None:
        self.latest = progress
        if not self.is_pausing:
            self.is_pausing = True
            self.send()
            self.loop.call_later(PAUSE_S, self.go_on, context=ContextVars())

    def go_on(self) -> None:
        self.is_pausing = False
        if self.latest is not None:
            self.take(self.latest)

    def send(self) -> None:
        progress, self.latest = self.latest, None
        if progress is not None:
            self.owned.note_progress(progress).add_done_callback(forget)


def forget(reply: asyncio.Future[object]) -> None:
    """A report that did not reach the store is lost: the next one counts."""
    error = None if reply.cancelled() else reply.exception()
    if error is not None and not isinstance(error, StoreUnavailable):
        raise error
