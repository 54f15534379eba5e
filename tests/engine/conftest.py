"""A store for the parts of the engine that are tested with a real claim."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from taskflow.store.store import Store
from tests.store.scene import Scene


@pytest.fixture
async def scene(valkey_url: str) -> AsyncIterator[Scene]:
    store = await Store.open(valkey_url)
    yield Scene(store)
    await store.close()
