"""Points an app at other servers and at another clock, for the time of a test."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taskflow.app import TaskFlow
from taskflow.connections import Connections
from taskflow.testing.valkey import Place
from taskflow.values.clock import Clock


@asynccontextmanager
async def wired(app: TaskFlow, *, clock: Clock, place: Place | None) -> AsyncIterator[None]:
    """The app lives by `clock`, and at `place` unless that is None. Afterwards it is as it was."""
    former = app._link
    config = former.config
    if place is not None:
        config = dataclasses.replace(config, broker=place.url, store=place.url, namespace=place.namespace)
    app._link = Connections(config, clock=clock)
    try:
        yield
    finally:
        await app.aclose()
        app._link = former
