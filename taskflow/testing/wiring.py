"""Points an app at other servers and at another clock, for the time of a test."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self
from weakref import WeakKeyDictionary

from taskflow.app import TaskFlow
from taskflow.broker.publisher import AsyncPublisher, Publisher
from taskflow.config import Config
from taskflow.portal import LoopThread
from taskflow.store.session import StoreSession
from taskflow.testing.valkey import Place
from taskflow.values.clock import Clock


@dataclass(frozen=True, slots=True)
class Wires:
    """All by which an app reaches the outside."""

    config: Config
    publisher: Publisher
    async_publisher: AsyncPublisher
    loop_thread: LoopThread
    sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, StoreSession]

    @classmethod
    def of(cls, app: TaskFlow) -> Self:
        return cls(app.config, app.publisher, app.async_publisher, app.loop_thread, app.sessions)

    @classmethod
    def to(cls, place: Place, config: Config) -> Self:
        """New ones, which lead to `place`; all other settings stay."""
        config = dataclasses.replace(config, broker=place.url, store=place.url, namespace=place.namespace)
        publisher = Publisher(place.url, app_id=config.app_id, send_timeout_ms=config.send_timeout_ms)
        return cls(
            config, publisher, AsyncPublisher(publisher), LoopThread("taskflow-store"), WeakKeyDictionary()
        )

    def plug_into(self, app: TaskFlow) -> None:
        app.config, app.publisher, app.async_publisher = self.config, self.publisher, self.async_publisher
        app.loop_thread, app.sessions = self.loop_thread, self.sessions


@asynccontextmanager
async def wired(app: TaskFlow, *, clock: Clock, place: Place | None) -> AsyncIterator[None]:
    """The app lives by `clock`, and at `place` unless that is None. Afterwards it is as it was."""
    former_clock, former = app.clock, Wires.of(app)
    app.clock = clock
    if place is not None:
        Wires.to(place, app.config).plug_into(app)
    try:
        yield
    finally:
        await app.aclose()
        app.clock = former_clock
        former.plug_into(app)
