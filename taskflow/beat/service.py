"""Beat: sleeps until the next entry is due, and then does its duties. Several beats may run; one leads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

from taskflow.beat.blobs import BlobSweep
from taskflow.beat.bulk import BulkDuty
from taskflow.beat.crons import Crons
from taskflow.beat.gauges import StoreGauges
from taskflow.beat.leader import Deposed, Leadership
from taskflow.beat.reaper import Reaper
from taskflow.beat.retention import Retention
from taskflow.beat.timers import Timers
from taskflow.broker.publisher import AsyncPublisher, Publisher
from taskflow.broker.topology import Topology
from taskflow.config import Config
from taskflow.courier import Courier
from taskflow.errors import StoreUnavailable
from taskflow.observability.trouble import Trouble
from taskflow.redis.address import parse_server_url
from taskflow.redis.client import StoreClient
from taskflow.redis.connection import CommandError
from taskflow.store.store import Store
from taskflow.values.clock import MAX_SILENT_SKEW_MS, Clock, SystemClock

logger = logging.getLogger("taskflow.beat")

STANDBY_MS = 1_200  # a term is 8 s, so with this pause the lead passes within 10 s
CLOCK_CHECK_MS = 30_000
LONGEST_SLEEP_S = 1.0
NUDGE_WAIT_S = 5  # how long one BLPOP waits


class Beat:
    """One beat. `await beat.run()` does its duties until `beat.stop()`; tests call `run_once` turn by turn."""

    def __init__(self, config: Config, *, clock: Clock | None = None, has_metrics: bool = False) -> None:
        self.config = config
        self.has_metrics = has_metrics
        self.clock = clock or SystemClock()
        self.stopping = asyncio.Event()
        self.correct_at_ms = 0
        self.last_turn_ms = 0
        self.went_well_s: float | None = None  # time.monotonic() of the last turn that did not fail (S13.3)
        self.gauges: StoreGauges | None = None
        self.nudge: asyncio.Future[Any] | None = None
        self.nudge_at_ms = 0  # not to ask for nudges before; the server has refused it
        self.trouble = Trouble(logger, "a turn of beat")

    async def start(self) -> None:
        """Connect to the store. Raises StoreUnavailable."""
        config = self.config
        self.store = await Store.open(config.store, namespace=config.namespace)
        self.nudges = StoreClient(
            parse_server_url(config.store, what="store"),
            home_key=self.store.keys.prefix,
            longest_wait_s=NUDGE_WAIT_S,
            log_level=logging.DEBUG,
        )
        await self.nudges.connect()
        self.publisher = self.make_publisher()
        self.courier = Courier(self.publisher, self.store.routing.clear_outbox)
        send_work = self.courier.send_work
        self.leadership = Leadership(self.store.duties)
        self.gauges = StoreGauges(self.store) if self.has_metrics else None
        self.timers = Timers(self.store, send_work)
        self.crons = Crons(self.store, send_work)
        self.reaper = Reaper(self.store, send_work)
        self.bulk = BulkDuty(self.store, send_work, max_event_bytes=config.max_event_bytes)
        self.retention = Retention(self.store, event_retention_ms=config.retention_ms)
        self.blob_sweep = None if config.blob_place is None else BlobSweep(self.store, config.blob_place)

    def make_publisher(self) -> AsyncPublisher:
        config = self.config
        topology = Topology(config.namespace)
        return AsyncPublisher(
            Publisher(config.broker, app_id="", send_timeout_ms=config.send_timeout_ms, topology=topology)
        )

    async def run(self) -> None:
        """Connect, and do the duties until `stop` is called. Raises StoreUnavailable if it can't connect."""
        await self.start()
        await self.serve()

    async def serve(self) -> None:
        """Do the duties until `stop` is called. Call `start` first."""
        try:
            while not self.stopping.is_set():
                try:
                    next_ms = await self.run_once()
                except (StoreUnavailable, CommandError) as error:
                    self.trouble.note(error)
                    await self.pause()
                except Exception as error:
                    # Beat must survive any error of one duty; the next turn does what this one left undone.
                    self.trouble.note(error, level=logging.ERROR, with_traceback=True)
                    await self.pause()
                else:
                    self.trouble.over()
                    self.went_well_s = time.monotonic()
                    await self.sleep_until(next_ms)
        finally:
            await self.close()

    async def pause(self) -> None:
        """Pause after a failed turn. It is short, since the lead must pass within 10 s once all is well."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STANDBY_MS / 1000):
                await self.stopping.wait()

    async def run_once(self) -> int:
        """Do one turn; return when (ms) the next one is due at the latest."""
        self.take_nudge()
        now_ms = self.clock.now_ms()
        if now_ms >= self.correct_at_ms or self.clock_was_set():
            await self.correct_clock()
            now_ms = self.clock.now_ms()  # or what a wrong clock plans may be an hour away
        if now_ms < self.last_turn_ms - MAX_SILENT_SKEW_MS:
            self.clock_went_back(self.last_turn_ms - now_ms)
        self.last_turn_ms = now_ms
        fence = await self.leadership.hold(now_ms)
        if fence is None:
            # The leading beat gets the nudges, not this one, which may lead next.
            self.timers.look_again()
            self.crons.functions_changed()
            if self.gauges is not None:
                self.gauges.stand_by()
            return now_ms + STANDBY_MS
        lost = await self.reaper.run_once(now_ms)
        if lost is not None:
            # The reaper looks at the timers too: a nudge goes to one beat, which may have lost the lead before it acted on it.
            self.timers.next_ms = lost.next_timer_ms
            self.bulk.are_some = lost.has_bulks
        due_ms = await self.timers.run_once(now_ms)
        try:
            cron_ms = await self.crons.run_once(now_ms, fence)
        except Deposed:
            self.leadership.depose()
            self.crons.functions_changed()
            return now_ms
        trim_ms = await self.retention.run_once(now_ms)
        sweep_ms = None if self.blob_sweep is None else await self.blob_sweep.run_once(now_ms)
        bulk_ms = await self.bulk.run_once(now_ms)
        gauges_ms = None if self.gauges is None else await self.gauges.run_once(now_ms)
        times_ms = (
            self.leadership.renew_at_ms,
            self.reaper.next_ms,
            due_ms,
            cron_ms,
            trim_ms,
            sweep_ms,
            bulk_ms,
            gauges_ms,
        )
        return min(ms for ms in times_ms if ms is not None)

    def clock_was_set(self) -> bool:
        return isinstance(self.clock, SystemClock) and self.clock.was_set()

    def clock_went_back(self, step_ms: int) -> None:
        """Plan everything anew: the store's clock was set back, so all that is planned by it is too far away. Rule S8.3."""
        logger.warning("the store's clock went back by %.1f s; everything is planned anew", step_ms / 1000)
        self.leadership.renew_at_ms = 0
        self.reaper.next_ms = 0
        self.nudge_at_ms = 0
        self.retention.next_ms = 0
        if self.blob_sweep is not None:
            self.blob_sweep.next_ms = 0
        if self.gauges is not None:
            self.gauges.next_ms = 0
        self.timers.look_again()
        self.crons.clock_went_back()

    async def correct_clock(self) -> None:
        if isinstance(self.clock, SystemClock):
            await self.store.correct(self.clock)
        self.correct_at_ms = self.clock.now_ms() + CLOCK_CHECK_MS

    async def sleep_until(self, next_ms: int) -> None:
        """Sleep until `next_ms`, or until an earlier timer is stored or functions are registered."""
        wait_s = min((next_ms - self.clock.now_ms()) / 1000, LONGEST_SLEEP_S)
        if wait_s <= 0 or self.stopping.is_set():
            return
        # The loop keeps the time, since the store's own time-outs are only exact to 100 ms (its `hz`).
        # Only the leader asks for nudges: a beat that stands by would take them from it.
        is_mine = self.leadership.fence is not None and self.clock.now_ms() >= self.nudge_at_ms
        if self.nudge is None and is_mine:
            self.nudge = self.nudges.call("BLPOP", self.store.keys.nudge, NUDGE_WAIT_S)
        stop = asyncio.ensure_future(self.stopping.wait())
        waits: list[asyncio.Future[Any]] = [stop] if self.nudge is None else [self.nudge, stop]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=wait_s)
        finally:
            stop.cancel()

    def take_nudge(self) -> None:
        """Act on the nudge that has come, if any."""
        if self.nudge is None or not self.nudge.done():
            return
        nudge, self.nudge = self.nudge, None
        is_lost = nudge.cancelled() or nudge.exception() is not None
        if is_lost:
            self.nudge_at_ms = self.clock.now_ms() + STANDBY_MS
        reply = None if is_lost else nudge.result()
        # A timer leaves no nudge where one of any kind waits, and a nudge that was lost may have been of either kind.
        if is_lost or reply is not None:
            self.timers.look_again()
        if is_lost or (reply is not None and reply[1] == b"functions"):
            self.crons.functions_changed()

    def stop(self) -> None:
        self.stopping.set()

    async def close(self) -> None:
        """Give the lead away and disconnect."""
        try:
            async with asyncio.timeout(1.0):
                await self.leadership.resign()
        except (StoreUnavailable, TimeoutError):
            logger.debug("the lead was not given away: its term runs out")
        await self.nudges.close()
        await self.courier.flush()
        await asyncio.get_running_loop().run_in_executor(None, self.publisher.close)
        await self.store.close()
