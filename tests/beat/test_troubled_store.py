"""S8.1, S9.5: a store that refuses writes, and one that somebody has emptied."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import redis

from taskflow import Context, Step, TaskFlow, TriggerCron
from taskflow.beat.service import Beat
from taskflow.values.clock import boot_ns
from taskflow.worker.child.runner import AppRunner, RunnerOptions
from taskflow.worker.lease import Lease
from tests.beat.beats import Beats, every_minute
from tests.servers import ValkeyServer
from tests.waiting import until


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as started:
        yield started


@pytest.fixture
def own_app(server: ValkeyServer) -> Iterator[TaskFlow]:
    """On a server of its own, as it is emptied and made read-only."""
    client(server).flushall()
    made = TaskFlow("shop", store=server.url, broker=server.url)
    yield made
    made.close()


def client(server: ValkeyServer) -> redis.Redis:
    return redis.Redis.from_url(server.url)


@asynccontextmanager
async def running(beat: Beat) -> AsyncIterator[None]:
    task = asyncio.create_task(beat.run())
    try:
        yield
    finally:
        beat.stop()
        await task


async def test_a_store_that_refuses_writes_is_said_once_and_asked_at_leisure(
    own_app: TaskFlow, server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """S9.5: beat wrote 4,000 lines a second."""
    beat = Beat(own_app.config)
    with client(server) as admin:
        async with running(beat):
            await until(
                lambda: hasattr(beat, "leadership") and beat.leadership.fence is not None,
                description="the lead",
            )
            admin.config_set("maxmemory", "1")
            admin.config_resetstat()
            await until(
                lambda: beat.trouble.failures >= 3, description="three turns that fail", deadline_s=15
            )
            asked = admin.info("commandstats")
            admin.config_set("maxmemory", "0")
            await until(lambda: not beat.trouble.failures, description="beat to go on")
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    mine = [line for line in lines if line.startswith("a turn of beat")]
    assert len(mine) == 2, mine
    assert "OOM" in mine[0]
    assert mine[1].startswith("a turn of beat works again, after ")
    assert sum(stats["calls"] for name, stats in asked.items() if "blpop" in name) < 10


async def test_a_worker_registers_again_in_a_store_that_was_emptied(
    own_app: TaskFlow, server: ValkeyServer
) -> None:
    """S8.1: crons tick again, although no process was replaced and no connection was lost."""
    fired: list[str] = []

    @own_app.function(trigger=TriggerCron("* * * * * *"))
    async def every_second(ctx: Context[Step]) -> None:
        fired.append(ctx.event.data["scheduled_at"])

    lease = Lease(lease_s=60)
    lease.renew(boot_ns())
    worker = AppRunner(own_app, RunnerOptions(), child_id="here:0", lease=lease)
    await worker.start()
    async with running(Beat(own_app.config)):
        await until(lambda: len(fired) >= 2, description="the cron to tick")
        with client(server) as admin:
            admin.flushall()
        # As the supervisor does when a heartbeat finds that the store does not know the worker.
        lease.lose()
        lease.renew(boot_ns())
        before = len(fired)
        await until(lambda: len(fired) >= before + 2, deadline_s=20, description="the cron to tick again")
    await worker.stop()


async def test_a_beat_whose_lead_the_store_has_forgotten_loses_no_tick(app: TaskFlow, beats: Beats) -> None:
    """S8.1"""
    function_id = every_minute(app)
    await beats.register()
    beat = await beats.start()
    await beats.pass_seconds(59, beat)
    assert beat.leadership.renew_at_ms > beats.clock.now_ms() + 1_000, (
        "the tick comes before the lead is renewed"
    )
    await beats.store.client.call("DEL", f"{beats.store.keys.prefix}leader")
    await beats.pass_seconds(3, beat)
    assert await beats.ticks(function_id) == ["00:01:00"]
