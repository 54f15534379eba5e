"""Hosts: a worker with its supervisor and children, and a beat. They die, pause and come back. Rules S9.3, S9.4, S9.8."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any

from taskflow.app import TaskFlow
from taskflow.beat.service import Beat
from taskflow.broker.publisher import AsyncPublisher
from taskflow.broker.streams.bindings import BoundQueue
from taskflow.config import Config
from taskflow.engine.thread_pool import ThreadPool, carried
from taskflow.errors import BrokerUnavailable, StoreUnavailable
from taskflow.redis.connection import CommandError
from taskflow.store.store import Store
from taskflow.values.clock import SystemClock
from taskflow.worker.child.runner import AppRunner, RunnerOptions
from tests.simulation.broker import SimulatedBroker, SimulatedConsumer, SimulatedPublisher
from tests.simulation.network import Network
from tests.simulation.process import SimulatedProcess
from tests.simulation.releases import OLD
from tests.simulation.world import US_PER_S, World

HEARTBEAT_S, LEASE_S, CALL_TIMEOUT_S, RETRY_S = 3.0, 10.0, 1.0, 1.0
RESTART_S = (0.0, 3.0)


@dataclass(slots=True)
class Place:
    """What all hosts of a simulation share."""

    world: World
    network: Network
    broker: SimulatedBroker
    apps: Mapping[int, TaskFlow]  # the releases of the code, by number

    def process(self, name: str) -> SimulatedProcess:
        process = SimulatedProcess(self.world, name)  # type: ignore[abstract]  # what a loop can do besides, nobody asks for
        process.connect = self.network.connect
        return process


class HostTime:
    """The clocks of a machine: one that is wrong and that somebody sets, and one that nobody can set but that runs fast or slow."""

    def __init__(self, world: World, skew_ms: int) -> None:
        self.world = world
        self.skew_ms = skew_ms
        self.drift = world.random.choice([0.0, 0.0, 2e-5, -2e-5, 5e-4, -5e-4])

    def boot_ms(self) -> int:
        return round(self.world.now_ms * (1 + self.drift))

    def wall_ms(self) -> int:
        return self.world.now_ms + self.skew_ms

    def set_by(self, step_ms: int) -> None:
        self.skew_ms += step_ms


class SkewedClock(SystemClock):
    """The clock of a process: by its host's time, until it is corrected by the store's. Rule S8.3."""

    def __init__(self, host: HostTime) -> None:
        self.host = host
        super().__init__()

    def boot_ms(self) -> int:
        return self.host.boot_ms()

    def wall_ms(self) -> int:
        return self.host.wall_ms()

    def report_skew(self) -> None:
        """Nobody has to know: it is meant to be wrong."""


class SimulatedLease:
    """As the lease in shared memory, on the virtual clock."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.epoch = 0
        self.confirmed_us: int | None = None

    def is_valid(self, *, epoch: int | None = None) -> bool:
        if epoch is not None and epoch != self.epoch:
            return False
        confirmed_us = self.confirmed_us
        return confirmed_us is not None and self.world.now_us - confirmed_us < LEASE_S * US_PER_S


class NoThreads(ThreadPool):
    """What would run in a thread is called at once: a second thread would make an order of its own."""

    def call(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> asyncio.Future[Any]:
        future = self.loop.create_future()
        try:
            future.set_result(copy_context().run(fn, *args, **kwargs))
        except BaseException as error:
            future.set_exception(carried(error))
        return future


class SimulatedWorker(AppRunner):
    """A child on the simulated broker."""

    def __init__(self, place: Place, process: SimulatedProcess, *, release: int, **options: Any) -> None:
        super().__init__(place.apps[release], **options)
        self.place = place
        self.process = process

    def make_threads(self) -> ThreadPool:
        return NoThreads(self.loop, max_threads=1)

    def make_publisher(self) -> AsyncPublisher:
        return SimulatedPublisher(self.place.broker, self.app.id)

    def make_consumer(self, queues: Sequence[BoundQueue]) -> SimulatedConsumer:
        names = [queue.name for queue in queues]
        return SimulatedConsumer(
            self.place.broker, self.process, queues=names, on_deliveries=self.intake_takes
        )

    def intake_takes(self, deliveries: Any) -> None:
        self.intake.take(deliveries)


class Child:
    """One child process of a host."""

    def __init__(self, host: WorkerHost, child_id: str) -> None:
        self.child_id = child_id
        self.release = host.release
        self.process = host.place.process(child_id)
        self.lease = SimulatedLease(host.place.world)
        self.worker = SimulatedWorker(
            host.place,
            self.process,
            release=host.release,
            options=RunnerOptions(queues=host.queues, concurrency=host.concurrency),
            child_id=child_id,
            lease=self.lease,
            clock=SkewedClock(host.time),
        )
        self.is_draining = False
        self.process.start(self.live())

    def drain(self) -> None:
        """SIGTERM."""
        self.is_draining = True
        self.process.world.history.add("drained", self.child_id)
        self.process.start(self.end())

    @property
    def takes_work(self) -> bool:
        return hasattr(self.worker, "intake") and not self.process.is_dead

    def in_hand(self) -> list[str]:
        """What the process still holds; nothing, once all runs have ended."""
        if self.process.is_dead or not hasattr(self.worker, "intake"):
            return []
        intake = self.worker.intake
        executor, router = intake.executor, intake.router
        held = {
            "slots": executor.slots.count - executor.slots.free,
            "runs": len(executor.executions),
            "steps that wait for a slot": sum(not waiter.done() for waiter in executor.slots.waiters),
            "events to route": len(router.waiting) + router.in_flight,
            "messages": len(intake.tasks) + len(intake.held),
            "paused queues": len(intake.paused),
        }
        return [f"{count} {what}" for what, count in held.items() if count]

    async def end(self) -> None:
        await self.worker.stop(drain_timeout_s=5.0)
        self.process.kill()

    async def live(self) -> None:
        try:
            await self.worker.start()
        except (StoreUnavailable, BrokerUnavailable, CommandError):
            self.process.kill()  # as a child that can't reach its servers ends; its supervisor starts another


class WorkerHost:
    """A machine with a supervisor and its children.

    The supervisor stands in for `worker.supervisor`, which needs real processes: heartbeats renew the leases; what a dead child
    held is handed back at once, and another takes its place.
    """

    def __init__(
        self,
        place: Place,
        name: str,
        *,
        children: int,
        concurrency: int,
        queues: tuple[str, ...],
        skew_ms: int,
        release: int = OLD,
    ) -> None:
        self.place = place
        self.release = release  # of the code, for children that are still to start
        self.name = name
        self.size = children
        self.concurrency = concurrency
        self.queues = queues
        self.time = HostTime(place.world, skew_ms)
        self.lives = 0
        self.children: list[Child] = []
        self.outdated: list[Child] = []  # children that a rolling restart has still to replace
        self.buried: list[SimulatedProcess] = []
        self.is_leaving = False
        self.boot()

    def boot(self) -> None:
        """The host starts, for the first time or again, as a worker with a new name."""
        self.lives += 1
        self.is_leaving = False
        self.worker_id = f"{self.name}.{self.lives}"
        self.child_count = 0
        self.registered_ms: int | None = None
        self.clock = SkewedClock(self.time)
        self.supervisor = self.place.process(f"{self.worker_id}:s")
        self.place.world.history.add(
            "serves", self.supervisor.name, worker=self.worker_id, queues=self.queues
        )
        self.store: Store | None = None
        self.dead: list[tuple[str, bool]] = []  # whose claims are to be handed back, and whether they crashed
        self.children, self.outdated = [], []
        for _ in range(self.size):
            self.add_child()
        self.supervisor.start(self.supervise())

    def add_child(self) -> None:
        self.child_count += 1
        self.children.append(Child(self, f"{self.worker_id}:{self.child_count}"))

    # --- what chaos does ---

    @property
    def is_alive(self) -> bool:
        return not self.supervisor.is_dead

    def processes(self) -> list[SimulatedProcess]:
        return [self.supervisor, *[child.process for child in self.children]]

    def crash(self) -> None:
        """The machine is gone, and comes back as another."""
        for process in self.processes():
            process.kill()
        self.buried += self.processes()

    def restart_with(self, release: int) -> None:
        """A deploy: the worker drains and leaves; another one starts, with this code."""
        self.release = release
        self.place.world.history.add("restarts", self.supervisor.name, release=release)
        self.leave()[0].add_done_callback(self.start_anew, context=Context())

    def start_anew(self, left: asyncio.Task[Any]) -> None:
        if not left.cancelled() and self.is_alive:
            self.crash()
            self.boot()

    def reload_with(self, release: int) -> None:
        """A rolling restart, after which the children have this code."""
        self.release = release
        self.place.world.history.add("reloads", self.supervisor.name, release=release)
        self.restart()

    def freeze(self, duration_us: int) -> None:
        """The whole machine stands still for a while."""
        for process in self.processes():
            process.pause(duration_us)

    def restart(self) -> None:
        """SIGHUP: each child drains once its successor takes work."""
        self.outdated = list(self.children)

    # --- the supervisor ---

    def roll_on(self) -> None:
        """The next turn of a rolling restart, one child at a time."""
        while self.outdated and self.outdated[0].process.is_dead:
            self.outdated.pop(0)
        if not self.outdated or self.outdated[0].is_draining:
            return
        if len(self.children) <= self.size:
            self.add_child()
        elif not self.outdated[0].takes_work:  # it may not listen to signals yet
            self.outdated[0].process.kill()
        elif self.children[-1].takes_work:
            self.outdated[0].drain()

    async def supervise(self) -> None:
        next_beat_s = 0.0
        loop = asyncio.get_running_loop()
        while not self.is_leaving:
            try:
                await self.look_after_children()
                if loop.time() >= next_beat_s:
                    await self.beat()
                    next_beat_s = loop.time() + HEARTBEAT_S
            except (StoreUnavailable, TimeoutError, CommandError):
                await self.disconnect()
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(0.1)

    async def connected(self) -> Store:
        if self.store is None:
            self.store = await Store.open("unix:///simulated", timeout_s=CALL_TIMEOUT_S)
        return self.store

    async def disconnect(self) -> None:
        if self.store is not None:
            store, self.store = self.store, None
            await store.close()

    async def look_after_children(self) -> None:
        for child in list(self.children):
            if child.process.is_dead:
                self.children.remove(child)
                self.buried.append(child.process)
                self.dead.append((child.child_id, not child.is_draining))
        while len(self.children) < self.size:
            self.add_child()
        self.roll_on()
        while self.dead:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                store = await self.connected()
                child_id, has_crashed = self.dead[0]
                await store.claims.hand_back(
                    child_id,
                    [],
                    crashed=has_crashed,
                    cause="signal 9",
                    now_ms=self.clock.now_ms(),
                    tells=False,
                )
            self.dead.pop(0)

    async def beat(self) -> None:
        sent_us = self.place.world.now_us
        async with asyncio.timeout(CALL_TIMEOUT_S):
            store = await self.connected()
            await store.correct(self.clock)
            registered_ms = await store.scripts.heartbeat(
                now_ms=self.clock.now_ms(),
                worker_id=self.worker_id,
                serving="",
                child_ids=[child.child_id for child in self.children],
            )
        if self.registered_ms not in (None, registered_ms):
            for child in self.children:
                child.lease.epoch += 1
                child.lease.confirmed_us = None
        self.registered_ms = registered_ms
        for child in self.children:
            child.lease.confirmed_us = sent_us

    # --- a clean end ---

    def leave(self) -> list[asyncio.Task[Any]]:
        """SIGTERM: all children drain, then the supervisor says goodbye."""
        self.is_leaving = True
        for child in self.children:
            if hasattr(child.worker, "intake"):
                child.drain()
            else:
                child.process.kill()
        return [self.supervisor.start(self.say_goodbye())]

    async def say_goodbye(self) -> None:
        while not all(child.process.is_dead for child in self.children):  # noqa: ASYNC110  # the dead set no event
            await asyncio.sleep(0.1)
        children = [*[child.child_id for child in self.children], *[dead[0] for dead in self.dead]]
        while True:
            try:
                store = await self.connected()
                for child_id in children:
                    await store.claims.hand_back(
                        child_id, [], crashed=False, cause="left", now_ms=self.clock.now_ms(), tells=False
                    )
                await store.duties.forget_worker(self.worker_id)
                return
            except StoreUnavailable:  # `supervise`, in its last turn, may have given the connection up
                await asyncio.sleep(RETRY_S)


class SimulatedBeat(Beat):
    """A beat on the simulated broker."""

    def __init__(self, place: Place, config: Config, *, clock: SystemClock, name: str) -> None:
        super().__init__(config, clock=clock)
        self.place = place
        self.name = name

    def make_publisher(self) -> AsyncPublisher:
        return SimulatedPublisher(self.place.broker, "")

    async def start(self) -> None:
        await super().start()
        self.leadership.beat_id = self.name  # its own is random


class BeatHost:
    """A machine with a beat. When that dies, a new one starts."""

    def __init__(self, place: Place, name: str, *, skew_ms: int) -> None:
        self.place = place
        self.name = name
        self.time = HostTime(place.world, skew_ms)
        self.lives = 0
        self.buried: list[SimulatedProcess] = []
        self.boot()

    def boot(self) -> None:
        self.lives += 1
        self.process = self.place.process(f"{self.name}.{self.lives}")
        self.beat = SimulatedBeat(
            self.place,
            self.place.apps[OLD].config,
            clock=SkewedClock(self.time),
            name=self.process.name,
        )
        self.process.start(self.live())

    async def live(self) -> None:
        try:
            await self.beat.run()
        except (StoreUnavailable, CommandError):
            self.crash()  # its supervisor starts another
            self.place.world.later(US_PER_S, self.boot_again)

    def boot_again(self) -> None:
        if not self.is_alive:
            self.boot()

    @property
    def is_alive(self) -> bool:
        return not self.process.is_dead

    def processes(self) -> list[SimulatedProcess]:
        return [self.process]

    def crash(self) -> None:
        self.process.kill()
        self.buried.append(self.process)

    def freeze(self, duration_us: int) -> None:
        self.process.pause(duration_us)
