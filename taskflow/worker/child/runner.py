"""AppRunner: runs an app on an event loop, with a consumer, a router, an executor, and a thread pool for blocking code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from taskflow.app import TaskFlow
from taskflow.broker.consumers import LoopConsumer, new_consumer
from taskflow.broker.publisher import AsyncPublisher, Publisher
from taskflow.broker.streams.bindings import BoundQueue
from taskflow.broker.topology import Topology
from taskflow.courier import Courier
from taskflow.engine.executor import Executor
from taskflow.engine.tasks.tagging import install_task_factory
from taskflow.engine.thread_pool import ThreadPool
from taskflow.function import Function
from taskflow.observability.meter import Meter
from taskflow.redis.subscriber import Subscriber
from taskflow.routing.known import KnownFunctions
from taskflow.routing.router import Router
from taskflow.store.lease import Lease
from taskflow.store.store import Store
from taskflow.values.clock import Clock, SystemClock
from taskflow.values.record import record
from taskflow.worker.child.intake import Intake
from taskflow.worker.child.registration import Registration

logger = logging.getLogger("taskflow.worker")

CONNECT_TIMEOUT_S = 5.0
CHECK_UP_S = 30.0
FIRST_LEASE_S, FIRST_LEASE_POLL_S = 1.0, 0.005
TAKE_DOWN_S = 5.0  # how long the end of the process waits for dependencies that last as long as it
GOODBYE_S = 1.0  # how long the end of the process waits for a store or broker that is away
MAX_THREADS = (
    512  # blocking code waits for a slot before it asks for a thread, so this is a bound, not a setting
)
PREFETCH = 500


class AlwaysValid:
    """The lease of a process without a supervisor: tests, and `taskflow.testing`."""

    epoch = 0

    def is_valid(self, *, epoch: int | None = None) -> bool:
        return True


class Beacon(Protocol):
    """The place where the process shows that it makes progress (S9.9)."""

    def loop_turned(self) -> None: ...

    def note_broker(self, *, is_connected: bool) -> None: ...


@record(kw_only=True)
class RunnerOptions:
    """The options of one worker process."""

    queues: tuple[str, ...] = ("default",)
    concurrency: int = 100  # slots
    drain_timeout_s: float = 30.0
    tick_s: float = 1.0  # how often it shows that its loop turns, and looks at its lease
    takes_work: bool = True  # False leaves all messages to other workers


class AppRunner:
    """Runs the functions of an app on the running loop. Start with `await start()`, end with `await stop()`."""

    def __init__(
        self,
        app: TaskFlow,
        options: RunnerOptions,
        *,
        child_id: str,
        lease: Lease | None = None,
        clock: Clock | None = None,
        beacon: Beacon | None = None,
        on_recycle: Callable[[str], None] = lambda reason: None,
        functions: Mapping[str, Function[Any, Any]] | None = None,
        meter: Meter | None = None,
    ) -> None:
        """`functions` by id replace those of the app, for tests. `meter` counts what is executed here."""
        self.app = app
        self.functions = functions
        self.meter = meter
        self.options = options
        self.child_id = child_id
        self.lease = lease or AlwaysValid()
        self.is_watched = lease is not None
        self.clock = clock or SystemClock()
        self.beacon = beacon
        self.on_recycle = on_recycle
        self.timers: list[asyncio.TimerHandle] = []
        self.check_up_timer: asyncio.TimerHandle | None = None
        self.lease_epoch = 0  # the last that was seen

    async def start(self) -> None:
        """Connect to store and broker, register the functions, and take work. Raises StoreUnavailable or BrokerUnavailable."""
        config = self.app.config
        self.loop = asyncio.get_running_loop()
        install_task_factory(self.loop)
        self.threads = self.make_threads()
        self.store = await Store.open(
            config.store, namespace=config.namespace, timeout_s=CONNECT_TIMEOUT_S, codecs=self.app.codecs
        )
        self.subscriber = Subscriber(config.store)
        self.publisher = self.make_publisher()
        self.courier = Courier(self.publisher, self.store.routing.clear_outbox)
        await self.follow_store_clock()
        self.registration = Registration(
            self.app, self.store, child_id=self.child_id, is_watched=self.is_watched, clock=self.clock
        )  # fmt: skip
        self.known = KnownFunctions(self.store.registry, config.app_id, register=self.registration.register)
        await self.register()
        # Runs are stored with the version of the code.
        self.config = replace(config, app_version=self.registration.code_base.version)
        self.executor = Executor(
            store=self.store, functions=self.app.functions if self.functions is None else self.functions,
            queues=self.options.queues, config=self.config, clock=self.clock, child_id=self.child_id,
            concurrency=self.options.concurrency, lease=self.lease, messenger=self.courier, threads=self.threads,
            on_abandoned=self.on_recycle, grace_s=self.options.drain_timeout_s, meter=self.meter,
        )  # fmt: skip
        await self.subscriber.connect(timeout_s=CONNECT_TIMEOUT_S)
        await self.subscriber.listen(self.store.keys.child_channel(self.child_id), self.executor.take_message)
        await self.subscriber.listen(self.store.keys.pauses_channel(config.app_id), self.executor.take_pause)
        self.store.client.on_reconnect = self.store_is_back
        self.lease_epoch = self.lease.epoch
        self.subscriber.client.on_reconnect = self.executor.look_again
        await self.lease_begins()
        await self.start_consuming()
        self.tick()
        self.plan_check_up()

    @property
    def topology(self) -> Topology:
        """The names of exchanges and queues. Made anew each time: a harness moves the app to other servers after making workers."""
        return Topology(self.app.config.namespace)

    async def start_consuming(self) -> None:
        config = self.config
        router = Router(
            store=self.store, config=config, clock=self.clock, known=self.known, taker=self.executor,
            child_id=self.child_id, lease=self.lease, meter=self.meter,
        )  # fmt: skip
        self.consumer = self.make_consumer(self.topology.queues(config.app_id, self.options.queues))
        self.intake = Intake(
            app_id=config.app_id, queues=self.options.queues, topology=self.topology,
            max_event_bytes=config.max_event_bytes, executor=self.executor, router=router, store=self.store,
            clock=self.clock, consumer=self.consumer,
        )  # fmt: skip
        self.known.on_change = self.functions_changed
        self.executor.on_unknown = lambda: self.courier.spawn(self.learn_functions())
        self.functions_changed()
        self.follow_lease()
        await self.consumer.open(CONNECT_TIMEOUT_S)
        for queue in self.options.queues:
            self.executor.look_for_work(queue)

    def make_publisher(self) -> AsyncPublisher:
        config = self.app.config
        return AsyncPublisher(
            Publisher(
                config.broker,
                app_id=config.app_id,
                send_timeout_ms=config.send_timeout_ms,
                topology=self.topology,
            )
        )

    def make_consumer(self, queues: Sequence[BoundQueue]) -> LoopConsumer:
        return new_consumer(
            self.app.config.broker,
            queues=queues,
            on_deliveries=lambda deliveries: self.intake.take(deliveries),
            prefetch=PREFETCH,
            name=self.child_id,
            key_prefix=self.topology.key_prefix,
        )

    def make_threads(self) -> ThreadPool:
        return ThreadPool(self.loop, max_threads=MAX_THREADS)

    async def register(self) -> None:
        """Tell the store of the code that this process executes, and learn which functions of the app count."""
        await self.registration.register()
        await self.known.load()

    async def learn_functions(self) -> None:
        """There are runs of a function that this code does not have: do other workers have it?"""
        await self.known.look_again()
        self.functions_changed()

    def functions_changed(self) -> None:
        """Act on a change of the app's functions that count (S2.7)."""
        self.executor.leave(self.known.ids)
        self.intake.take_events(not self.known.unreadable)

    def jobs_on_loop(self) -> tuple[str, ...]:
        """The claims whose code the loop executes now. For another thread, while the loop stands still."""
        task = asyncio.current_task(self.loop)
        for execution in list(self.executor.executions.values()):
            if task is not None and execution.tree.owns(task):
                return tuple(execution.claims.jobs)
        return ()

    def store_is_back(self) -> None:
        """Catch up after a lost connection to the store: the server may be another one, with less data."""
        self.courier.spawn(self.catch_up())

    async def catch_up(self) -> None:
        await self.register()
        await self.executor.reconcile()
        self.executor.look_again()

    def tick(self) -> None:
        """Show that the loop turns. Rule S9.9."""
        if self.beacon is not None:
            self.beacon.loop_turned()
            self.beacon.note_broker(is_connected=self.consumer.connected)
        self.follow_lease()
        self.timers = [self.loop.call_later(self.options.tick_s, self.tick)]

    async def lease_begins(self) -> None:
        """Wait for the supervisor's first heartbeat, which comes within a few ms. If the store is slow, `tick` notices it later."""
        give_up_s = self.loop.time() + FIRST_LEASE_S
        while not self.lease.is_valid() and self.loop.time() < give_up_s:  # noqa: ASYNC110  (memory of two processes)
            await asyncio.sleep(FIRST_LEASE_POLL_S)

    def follow_lease(self) -> None:
        """Listen to the broker only with a valid lease: without it the process claims nothing, so a work message is lost (S9.3)."""
        may_listen = self.options.takes_work and self.lease.is_valid()
        if self.lease.epoch != self.lease_epoch:  # the store has forgotten this worker, and perhaps all else
            self.lease_epoch = self.lease.epoch
            self.courier.spawn(self.register_if_forgotten())
        if may_listen is not self.intake.is_listening and not self.executor.is_draining:
            self.intake.listen(may_listen)

    async def register_if_forgotten(self) -> None:
        await self.registration.register_if_forgotten()
        await self.known.look_again()

    async def follow_store_clock(self) -> None:
        if isinstance(self.clock, SystemClock):
            await self.store.correct(self.clock)

    def plan_check_up(self) -> None:
        self.check_up_timer = self.loop.call_later(CHECK_UP_S, lambda: self.courier.spawn(self.check_up()))

    async def check_up(self) -> None:
        """Now and then: correct the clock (S8.3), and give back claims that came in no reply.

        A command that an old connection held up is executed late: its claims are nobody's (S9.2).
        """
        try:
            await self.follow_store_clock()
            await self.register_if_forgotten()
            await self.executor.reconcile()
        finally:
            self.plan_check_up()

    async def stop(self, *, drain_timeout_s: float | None = None) -> None:
        """Drain: take no more work, let executing steps end, and hand back the rest. Rule S9.6."""
        timeout_s = self.options.drain_timeout_s if drain_timeout_s is None else drain_timeout_s
        self.executor.is_draining = True
        for queue in self.topology.queues(self.app.id, self.options.queues):
            self.consumer.pause(queue.name)
        try:
            async with asyncio.timeout(timeout_s):
                await self.intake.finish()
                await self.executor.drain()
        except TimeoutError:
            # The time may have passed before `drain` began: no step may begin after the claims are handed back.
            self.executor.stop_all()
            held = list(self.executor.executions)
            logger.warning(
                "%d runs did not reach the end of a step within %g s; they are handed back",
                len(held),
                timeout_s,
            )
        try:
            async with asyncio.timeout(TAKE_DOWN_S):
                await self.executor.dependencies.close()
        except TimeoutError:
            logger.warning("the dependencies of this process were not taken down within %g s", TAKE_DOWN_S)
        try:
            async with asyncio.timeout(GOODBYE_S):
                await self.executor.hand_back([])
                await self.registration.leave()
        except TimeoutError:
            logger.warning("the store gave no answer; what this process holds is handed back for it later")
        await self.close()

    async def close(self) -> None:
        for timer in [*self.timers, self.check_up_timer]:
            if timer is not None:
                timer.cancel()
        await self.consumer.close(2.0)
        with contextlib.suppress(TimeoutError):  # the reaper sends the messages that are not sent now
            async with asyncio.timeout(GOODBYE_S):
                await self.courier.flush()
        await self.loop.run_in_executor(None, self.publisher.close)
        await self.subscriber.close()
        await self.store.close()
        self.threads.close()


def queue_names(option: Sequence[str]) -> tuple[str, ...]:
    """The queues of `-Q a,b -Q c`, each once; the default queue when none is given."""
    names = [name.strip() for part in option for name in part.split(",") if name.strip()]
    return tuple(dict.fromkeys(names)) or ("default",)
