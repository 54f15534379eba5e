from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from taskflow import TaskFlow
from taskflow.store.store import Store
from tests.beat.beats import START_MS, Beats, SettableClock


@pytest.fixture
async def beats(app: TaskFlow) -> AsyncIterator[Beats]:
    store = await Store.open(app.config.store, namespace=app.config.namespace)
    several = Beats(app, store, SettableClock(START_MS))
    yield several
    for beat in several.all:
        await beat.close()
    await store.close()
