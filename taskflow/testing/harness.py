"""Harness: workers and beat in the running loop, on real servers, with a clock that stands still until a test turns it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from taskflow.app import TaskFlow
from taskflow.broker.urls import broker_url
from taskflow.clock import Clock, VirtualClock
from taskflow.errors import ConfigError, RunNotFound
from taskflow.event import Event
from taskflow.function import Function
from taskflow.handle import Run
from taskflow.ids import is_ulid, run_id_for
from taskflow.store.store import Store
from taskflow.testing.stillness import Stillness, WatchedBeat
from taskflow.testing.views import RunView, view_of
from taskflow.types import JsonObject, RunId
from taskflow.worker.child import ProcessOptions, WorkerProcess

START_MS = 1_893_456_000_000  # 2030-01-01 00:00 UTC, a Tuesday
POLL_S = 0.001
DRAIN_TIMEOUT_S = 1.0


class Harness:
    """The real engine for a test: `workers` of each app, and one beat, in the running loop.

        async with Harness(app) as harness:
            run = await harness.start(remind)
            await harness.advance(days=30)
            assert await run.aresult() == "reminded"

    All apps use the broker and store of their configuration, which must be the same Redis or Valkey for all. `clock` starts at
    2030-01-01 00:00 UTC by default; the apps' events bear its time too. `concurrency` is the number of slots of each
    worker. `deadline_s`: how long the engine may take to settle.

    Raises ConfigError for apps that don't share their servers, or a broker that isn't Redis.
    """

    def __init__(
        self,
        app: TaskFlow,
        /,
        *others: TaskFlow,
        clock: VirtualClock | None = None,
        workers: int = 1,
        concurrency: int = 100,
        deadline_s: float = 10.0,
    ) -> None:
        self.apps = (app, *others)
        check_servers(self.apps)
        self.clock = clock or VirtualClock(START_MS)
        self.deadline_s = deadline_s
        self.workers = [
            WorkerProcess(
                each,
                ProcessOptions(queues=queues_of(each), concurrency=concurrency),
                child_id=f"harness-{os.urandom(4).hex()}:{number}",
                clock=self.clock,
            )
            for each in self.apps
            for number in range(workers)
        ]
        self.beat = WatchedBeat(app.config, clock=self.clock)
        self.former_clocks: list[Clock] = []

    async def __aenter__(self) -> Self:
        config = self.apps[0].config
        self.former_clocks = [app.clock for app in self.apps]
        for app in self.apps:
            app.clock = self.clock
        self.store = await Store.open(config.store, namespace=config.namespace)
        await asyncio.gather(*[worker.start() for worker in self.workers])
        self.beating = asyncio.create_task(self.beat.run())
        self.stillness = Stillness(store=self.store, clock=self.clock, workers=self.workers, beat=self.beat)
        await self.settled()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.beat.stop()
        await asyncio.gather(*[worker.stop(drain_timeout_s=DRAIN_TIMEOUT_S) for worker in self.workers])
        await self.beating
        await self.store.close()
        for app, clock in zip(self.apps, self.former_clocks, strict=True):
            await app.aclose()
            app.clock = clock

    # --- what a test does ---

    async def start(
        self, function: Function[..., Any], data: JsonObject | None = None, *, user: JsonObject | None = None
    ) -> Run:
        """Start a run of the function, and let it go on as far as it can without the clock."""
        run: Run = await function.ainvoke(data, user=user)
        await self.settled()
        return run

    async def send(
        self,
        event: str | Event | Sequence[Event],
        data: JsonObject | None = None,
        *,
        id: str | None = None,
        ts: int | None = None,
        user: JsonObject | None = None,
        app: TaskFlow | None = None,
    ) -> list[str]:
        """Send events as `app.asend` does, from the first app by default, and let the engine go on as far as it can."""
        sender = app or self.apps[0]
        if isinstance(event, str):
            ids = await sender.asend(event, data, id=id, ts=ts, user=user)
        else:
            ids = await sender.asend(event)
        await self.settled()
        return ids

    async def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0, ms: int = 0
    ) -> None:
        """Turn the clock forward, stopping at each moment at which something is due, until the engine has settled there."""
        await self.settled()
        start_ms = self.clock.now_ms()
        target_ms = VirtualClock(start_ms).advance(
            days=days, hours=hours, minutes=minutes, seconds=seconds, ms=ms
        )
        while (due_ms := await self.next_due_ms()) is not None and due_ms <= target_ms:
            await self.turn_to(due_ms)
        await self.turn_to(target_ms)

    async def settled(self) -> None:
        """Return when nothing moves unless the clock does: nothing executes, is ready, due, or on its way.

        A run that awaits raw I/O outside its steps counts as settled. TimeoutError, which says what moves, after `deadline_s`.
        """
        moving, quiet_looks = "", 0
        try:
            async with asyncio.timeout(self.deadline_s):
                while quiet_looks < 2:
                    moving = await self.look()
                    quiet_looks = 0 if moving else quiet_looks + 1
                    await asyncio.sleep(POLL_S if moving else 0)
        except TimeoutError as error:
            raise TimeoutError(f"not settled after {self.deadline_s:g} s: {moving}") from error

    # --- what a test sees ---

    @property
    def slots_in_use(self) -> int:
        """How many slots the workers have given away."""
        return sum(worker.options.concurrency - worker.executor.free for worker in self.workers)

    async def view(self, run: Run) -> RunView:
        """What is stored of a run and its steps. Raises RunNotFound."""
        stored = await self.store.history.run(run.id)
        if stored is None:
            raise RunNotFound(f"there is no run {run.id}: was it removed after the retention?")
        return view_of(stored)

    async def runs(self, function: Function[..., Any]) -> list[Run]:
        """All runs of a function that are kept, oldest first."""
        rows = await self.store.history.recent_runs(function.id, limit=10_000)
        return [Run(RunId(run_id), self.app_of(function)) for run_id, _ in reversed(rows)]

    async def run_of(self, function: Function[..., Any], event_id: str) -> Run:
        """The run that an event has started of a function; `event_id` as `send` gave it. Raises RunNotFound."""
        app = self.app_of(function)
        uid = event_id
        if not is_ulid(event_id):
            found = await self.store.client.call("HGET", self.store.keys.event_id(event_id), "uid")
            uid = (found or b"").decode()
        run = Run(run_id_for(uid, function.id), app)
        if not uid or await self.store.history.run(run.id) is None:
            raise RunNotFound(f"the event {event_id} has started no run of {function.id}")
        return run

    # --- the clock ---

    async def next_due_ms(self) -> int | None:
        """The time of the next timer or cron tick, or None."""
        first = await self.store.client.call("ZRANGE", self.store.keys.timers, 0, 0, "WITHSCORES")
        times = [schedule.fire_ms for schedule in self.beat.crons.schedules.values()]
        if first:
            times.append(int(float(first[1])))
        return min(times, default=None)

    async def turn_to(self, at_ms: int) -> None:
        """Set the clock to `at_ms`, unless it is later already, and wake beat."""
        self.clock.advance(ms=max(at_ms - self.clock.now_ms(), 0))
        await self.store.client.call("LPUSH", self.store.keys.nudge, at_ms)
        await self.settled()

    async def look(self) -> str:
        """What moves, or "". Looks at the processes last too: what they took from the servers meanwhile shows there."""
        if self.beating.done():
            await self.beating
            raise RuntimeError("beat has stopped")
        if self.beat.seen_ms < 0:
            return "beat is starting"
        return self.stillness.in_process() or await self.stillness.in_servers() or self.stillness.in_process()

    def app_of(self, function: Function[..., Any]) -> TaskFlow:
        return next(app for app in self.apps if app.id == function.spec.app_id)


def queues_of(app: TaskFlow) -> tuple[str, ...]:
    """The queues that an app's functions name, and the default one."""
    return tuple(dict.fromkeys(["default", *(spec.queue for spec in app.specs)]))


def check_servers(apps: Sequence[TaskFlow]) -> None:
    first = apps[0].config
    if not broker_url(first.broker).startswith("taskflow+"):
        raise ConfigError(
            "the Harness needs an app whose broker is a Redis or Valkey, like 'redis://localhost:6379/0'"
        )
    for app in apps[1:]:
        config = app.config
        if (config.broker, config.store, config.namespace) != (first.broker, first.store, first.namespace):
            raise ConfigError(
                f"the apps of a Harness must share broker, store and namespace, but {app.id!r} has others"
            )
