"""EngineInTest: the real engine in the loop of a test, with workers, one beat, and a clock that moves them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from taskflow.app import TaskFlow
from taskflow.store.store import Store
from taskflow.testing.stand_ins import StandIns
from taskflow.testing.stillness import Stillness, WatchedBeat
from taskflow.testing.stubs import StubbedFunctions, Stubs
from taskflow.values.clock import VirtualClock
from taskflow.worker.child.runner import AppRunner, RunnerOptions

__tracebackhide__ = True  # pytest then leaves out frames of this module, and shows the test's own lines

POLL_S = 0.001
DRAIN_TIMEOUT_S = 1.0


class EngineInTest:
    """The base of Harness: workers and beat of apps that share their servers. It runs inside `async with engine.running()`."""

    def __init__(
        self,
        apps: Sequence[TaskFlow],
        *,
        clock: VirtualClock,
        workers: int,
        concurrency: int,
        deadline_s: float,
        crons: bool,
    ) -> None:
        self.apps = tuple(apps)
        self.clock = clock
        self.concurrency = concurrency
        self.deadline_s = deadline_s
        self.crons = crons
        self.stubs = Stubs()
        self.stand_ins = StandIns(config=lambda: self.apps[0].config, make_worker=self.make_worker)
        self.workers = [self.make_worker(app) for app in self.apps for _ in range(workers)]
        self.is_open = False
        self.followed_ms = -1  # what the clock showed when beat was last woken for it

    def make_worker(self, app: TaskFlow) -> AppRunner:
        return AppRunner(
            app,
            RunnerOptions(queues=queues_of(app), concurrency=self.concurrency),
            child_id=f"harness-{os.urandom(4).hex()}:0",
            clock=self.clock,
            functions=StubbedFunctions(app, self.stubs),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the engine, with the apps connected to it, for as long as the block takes."""
        self.loop = asyncio.get_running_loop()
        config = self.apps[0].config
        self.store = await Store.open(config.store, namespace=config.namespace, codecs=self.apps[0].codecs)
        self.beat = WatchedBeat(config, clock=self.clock)
        self.beat.fires_crons = self.crons
        self.stillness = Stillness(store=self.store, clock=self.clock, workers=self.workers, beat=self.beat)
        await asyncio.gather(*[worker.start() for worker in self.workers])
        self.beating = asyncio.create_task(self.beat.run())
        self.is_open = True
        try:
            await self.settled()
            yield
        finally:
            self.is_open = False
            await self.end()

    async def end(self) -> None:
        self.beat.stop()
        await asyncio.gather(*[worker.stop(drain_timeout_s=DRAIN_TIMEOUT_S) for worker in self.workers])
        await self.beating
        await self.store.close()
        for app in self.stand_ins.apps.values():
            await app.aclose()

    @property
    def slots_in_use(self) -> int:
        """How many slots of the workers are in use: by runs that execute, and by their parallel steps."""
        return sum(worker.options.concurrency - worker.executor.slots.free for worker in self.workers)

    async def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0, ms: int = 0
    ) -> None:
        """Turn the clock forward by the sum of the arguments. At each due time on the way the engine does its work first."""
        await self.settled()
        start_ms = self.clock.now_ms()
        target_ms = VirtualClock(start_ms).advance(
            days=days, hours=hours, minutes=minutes, seconds=seconds, ms=ms
        )
        while (due_ms := await self.next_due_ms()) is not None and due_ms <= target_ms:
            await self.turn_to(due_ms)
        await self.turn_to(target_ms)

    async def settled(self) -> None:
        """Wait until nothing moves while the clock stands still: nothing executes, is ready, is due, or is on its way.

        A run that awaits raw I/O outside its steps counts as settled. Raises TimeoutError, which says what still moves, after
        `deadline_s`.
        """
        await self.ready()
        await self.follow_clock()
        moving, quiet_looks = "", 0
        try:
            async with asyncio.timeout(self.deadline_s):
                while quiet_looks < 2:
                    moving = await self.look()
                    quiet_looks = 0 if moving else quiet_looks + 1
                    await asyncio.sleep(POLL_S if moving else 0)
        except TimeoutError as error:
            places = "".join(f", at {place}" for place in self.stillness.places())
            raise TimeoutError(f"not settled after {self.deadline_s:g} s: {moving}{places}") from error

    async def settled_from_anywhere(self) -> None:
        """As `settled`, but may be called on any loop."""
        if asyncio.get_running_loop() is self.loop:
            await self.settled()
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.settled(), self.loop))

    async def next_timer_ms(self) -> int | None:
        """When (ms) the next timer is due, or None."""
        first = await self.store.client.call("ZRANGE", self.store.keys.timers, 0, 0, "WITHSCORES")
        return int(float(first[1])) if first else None

    async def next_due_ms(self) -> int | None:
        """When (ms) the next timer or cron tick is due, or None."""
        times = [schedule.fire_ms for schedule in self.beat.crons.schedules.values()]
        timer_ms = await self.next_timer_ms()
        return min(times if timer_ms is None else [*times, timer_ms], default=None)

    async def turn_to(self, at_ms: int) -> None:
        """Set the clock to `at_ms`, unless it is later already, wake beat, and let the engine settle."""
        self.clock.advance(ms=max(at_ms - self.clock.now_ms(), 0))
        self.followed_ms = -1
        await self.settled()

    async def follow_clock(self) -> None:
        """Wake beat when the clock was turned since, by a test that holds it in its own hands perhaps."""
        if self.followed_ms != (now_ms := self.clock.now_ms()):
            self.followed_ms = now_ms
            await self.store.client.call("LPUSH", self.store.keys.nudge, now_ms)

    async def look(self) -> str:
        """What still moves, or "". Looks at the workers twice, since a message read a moment ago is in no server any more."""
        if self.beating.done():
            await self.beating
            raise RuntimeError("beat has stopped")
        if self.beat.seen_ms < 0:
            return "beat is starting"
        return self.stillness.in_process() or await self.stillness.in_servers() or self.stillness.in_process()

    def check_open(self) -> None:
        if not self.is_open:
            raise RuntimeError(
                "the harness is not open: this belongs inside `async with Harness(app) as harness:`"
            )

    async def ready(self) -> None:
        """Start workers for stubbed functions that no app in the test has."""
        self.check_open()
        if self.stand_ins.wanted:
            self.workers += await self.stand_ins.start()


def queues_of(app: TaskFlow) -> tuple[str, ...]:
    """The default queue, and the queues that the app's functions name."""
    return tuple(dict.fromkeys(["default", *(function.spec.queue for function in app.functions.values())]))
