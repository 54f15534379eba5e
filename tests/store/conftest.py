"""The scripts on both servers that taskflow promises to run on: the embedded Valkey, and Debian's Redis 7.0."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from taskflow.store.store import Store
from tests.leaks import find_leaks
from tests.servers import REDIS_HINT, RedisServer, RespServer, ValkeyServer
from tests.store.scene import SECRET, Scene

VALKEY = pytest.param("valkey", id="valkey")
REDIS = pytest.param("redis", id="redis", marks=pytest.mark.redis)


@pytest.fixture(scope="session", params=[VALKEY, REDIS])
def store_server(request: pytest.FixtureRequest) -> Iterator[RespServer]:
    """A server that many tests share: none stops it."""
    if request.param == "redis" and not RedisServer.is_installed():
        if os.environ.get("CI") == "true":
            pytest.fail(REDIS_HINT)
        pytest.skip(REDIS_HINT)
    server = ValkeyServer() if request.param == "valkey" else RedisServer()
    with server:
        yield server


@pytest.fixture
async def store(store_server: RespServer) -> AsyncIterator[Store]:
    """An empty store."""
    store = await Store.open(store_server.url)
    await store.client.call("FLUSHDB")
    await store.client.call("SET", f"{store.keys.prefix}secret", SECRET)
    await store.check_version()
    yield store
    leaks = await find_leaks(store.client, store.keys.prefix, has_publisher=False)
    await store.close()
    assert not leaks, f"runs that have ended left this behind: {leaks}"


@pytest.fixture
def scene(store: Store) -> Scene:
    return Scene(store)
