"""How a process follows the store's clock. Rule S8.3."""

from __future__ import annotations

import asyncio

import pytest

from taskflow.store.store import Store
from taskflow.values.clock import SystemClock
from tests.proxy import Proxy
from tests.waiting import until

STALL_MS = 300
AHEAD_MS = 100


class FastClock(SystemClock):
    """Of a machine that is ahead of the store's."""

    def local_now_ms(self) -> int:
        return super().local_now_ms() + AHEAD_MS


@pytest.mark.parametrize("kind", [SystemClock, FastClock])
async def test_a_connection_that_stalls_does_not_put_the_clock_wrong(
    valkey_url: str, kind: type[SystemClock]
) -> None:
    """One that is wrong by less than the answer took is put right all the same."""
    port = int(valkey_url.rpartition(":")[2].partition("/")[0])
    with Proxy(port) as proxy:
        store = await Store.open(proxy.url_of(valkey_url))
        clock = kind()
        proxy.stall()
        correcting = asyncio.create_task(store.correct(clock))
        began_ms = clock.local_now_ms()
        await until(lambda: clock.local_now_ms() > began_ms + STALL_MS, description="a slow answer")
        proxy.resume()
        await correcting
        true_ms = SystemClock().now_ms()  # the store's clock is this machine's
        assert abs(clock.local_now_ms() + clock.offset_ms - true_ms) < STALL_MS / 6
        await store.close()
