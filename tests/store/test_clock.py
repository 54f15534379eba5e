"""How a process follows the store's clock. Rule S8.3."""

from __future__ import annotations

import asyncio

from taskflow.clock import SystemClock
from taskflow.store.store import Store
from tests.proxy import Proxy
from tests.waiting import until

STALL_MS = 300


async def test_a_connection_that_stalls_does_not_put_the_clock_wrong(valkey_url: str) -> None:
    port = int(valkey_url.rpartition(":")[2].partition("/")[0])
    with Proxy(port) as proxy:
        store = await Store.open(proxy.url_of(valkey_url))
        clock = SystemClock()
        proxy.stall()
        correcting = asyncio.create_task(store.correct(clock))
        began_ms = clock.local_now_ms()
        await until(lambda: clock.local_now_ms() > began_ms + STALL_MS, description="a slow answer")
        proxy.resume()
        await correcting
        assert abs(clock.offset_ms) < STALL_MS / 6, "both clocks are this machine's"
        await store.close()
