"""Connects an app to other servers and another clock for the time of a test."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taskflow.app import TaskFlow
from taskflow.connected_app import LazyConnections
from taskflow.testing.valkey import Place
from taskflow.values.clock import Clock


@asynccontextmanager
async def wired(app: TaskFlow, *, clock: Clock, place: Place | None) -> AsyncIterator[None]:
    """Have the app use `clock`, and `place` unless that is None, for as long as the block takes."""
    former = app._lazy
    config = app.config
    if place is not None:
        config = dataclasses.replace(config, broker=place.url, store=place.url, namespace=place.namespace)
    app._lazy = LazyConnections(config, clock=clock, codecs=app.codecs)
    try:
        yield
    finally:
        await app.aclose()
        app._lazy = former
