"""S9.2: beat makes up for what was lost, and for nothing else's sake is it late."""

from __future__ import annotations

import asyncio

from taskflow.beat.service import Beat
from taskflow.config import Config
from taskflow.values.clock import VirtualClock
from tests.store.scene import NOW_MS, Scene


async def test_a_broker_that_is_away_holds_up_no_timer(valkey_url: str, namespace: str) -> None:
    """S8.2: an event waits to be published, and a run to be started."""
    clock = VirtualClock(NOW_MS)
    config = Config.resolve("shop", broker="redis://127.0.0.1:1/0", store=valkey_url, namespace=namespace)
    beat = Beat(config, clock=clock)
    await beat.start()
    try:
        scene = Scene(beat.store)
        await scene.finish(await scene.claimed_run("fails"), "failed")
        await scene.make_run("starts", start_at_ms=NOW_MS + 6_000)
        clock.advance(ms=6_000)
        async with asyncio.timeout(2):
            await beat.run_once()
        assert await scene.status("starts") == "queued"
    finally:
        await beat.close()
