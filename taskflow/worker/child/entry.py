"""The main functions of a worker's forked processes: `serve_child` with the user's code, `serve_beat` without it."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import Counter
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from taskflow.app import TaskFlow
from taskflow.broker.failure import reason_of
from taskflow.config import Config
from taskflow.errors import BrokerUnavailable, ConfigError, StoreUnavailable
from taskflow.loading import load_app
from taskflow.observability.meter import Meter
from taskflow.observability.metrics import Tally
from taskflow.redis.address import parse_server_url, redact
from taskflow.redis.connection import CommandError
from taskflow.values.loops import new_loop
from taskflow.values.record import record
from taskflow.worker.child.registration import code_base_of
from taskflow.worker.child.reporter import Reporter
from taskflow.worker.child.runner import AppRunner, RunnerOptions
from taskflow.worker.child.surroundings import calm_collector, enable_own_loggers, refuse_green_threads
from taskflow.worker.child.watchdog import Watchdog
from taskflow.worker.link import ChildLink
from taskflow.worker.messages import Blocked, Counted, Failed, Hello, Ready, Recycle

logger = logging.getLogger("taskflow.worker")


@record(kw_only=True)
class WorkerOptions:
    """The options of `taskflow worker`."""

    target: str  # module[:app]
    processes: int = 1
    concurrency: int = 100
    queues: tuple[str, ...] = ("default",)
    drain_timeout_s: float = 30.0
    has_metrics: bool = False  # count what is executed, and tell the supervisor
    blocked_after_s: float = 5.0  # an event loop that stands still for this long is logged, with its stack


def serve_child(link: ChildLink, options: WorkerOptions) -> int:
    """Run a child: import the app, connect, and take work until a signal ends it. Returns the exit code."""
    try:
        app = load_app(options.target)
        refuse_green_threads()
    except ConfigError as error:
        link.send(Failed(str(error)))
        return 1
    enable_own_loggers()
    calm_collector()
    # Sent before anything is connected, so that the supervisor's heartbeat makes the lease valid meanwhile.
    config = app.config
    link.send(
        Hello(
            child_id=link.child_id, app_id=config.app_id, store_url=config.store, namespace=config.namespace,
            app_version=code_base_of(app).version, broker_url=config.broker, retention_ms=config.retention_ms,
            queues=options.queues,
        )
    )  # fmt: skip
    loop = new_loop()
    asyncio.set_event_loop(loop)
    # The loop isn't closed, since that would wait for threads and tasks of user code.
    return run_to_the_end(loop, ChildService(app, link, options).serve())


def run_to_the_end(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, int]) -> int:
    """Run work on the loop to its end, even if a task of user code stops the loop by raising SystemExit.

    That must not end the process. The task keeps SystemExit as its exception, so code that awaits the task gets it.
    """
    main = loop.create_task(work)
    while True:
        try:
            return loop.run_until_complete(main)
        except (SystemExit, KeyboardInterrupt) as error:
            if main.done():
                raise
            logger.error("a task that user code created raised %s; the worker goes on", type(error).__name__)


class ChildService:
    """A child from its import of the app to its end."""

    def __init__(self, app: TaskFlow, link: ChildLink, options: WorkerOptions) -> None:
        self.app = app
        self.link = link
        self.options = options
        self.drain = asyncio.Event()
        self.quit = asyncio.Event()
        self.meter = Meter() if options.has_metrics else None
        self.process = AppRunner(
            app,
            RunnerOptions(
                queues=options.queues,
                concurrency=options.concurrency,
                drain_timeout_s=options.drain_timeout_s,
                tick_s=min(1.0, options.blocked_after_s / 4),
                takes_work=bool(app.functions),
            ),
            child_id=link.child_id,
            lease=link.lease,
            beacon=link.progress,
            on_recycle=lambda reason: link.send(Recycle(reason)),
            meter=self.meter,
        )

    async def serve(self) -> int:
        """Connect, and take work until a signal ends the child; return the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.drain.set)
        # The link's watching thread sends SIGQUIT too, when the supervisor is gone.
        loop.add_signal_handler(signal.SIGQUIT, self.quit.set)
        try:
            await self.process.start()
        except (ConfigError, StoreUnavailable, BrokerUnavailable, CommandError) as error:
            self.link.send(failure(error, self.app.config))
            return 1
        Watchdog(
            self.link.progress, limit_s=self.options.blocked_after_s,
            on_blocked=lambda: self.link.send(Blocked(self.process.jobs_on_loop())),
        ).start()  # fmt: skip
        self.link.send(Ready(about(self.app, self.options), warning=warning_for(self.app)))
        reporter = None if self.meter is None else Reporter(self.meter, self.link, self.process.executor)
        await first_of(self.drain, self.quit)
        stopping = asyncio.create_task(self.process.stop())
        quitting = asyncio.create_task(self.quit.wait())
        await asyncio.wait([stopping, quitting], return_when=asyncio.FIRST_COMPLETED)
        if self.quit.is_set() and not stopping.done():
            stopping.cancel()
            await asyncio.wait([stopping])
            stopping = asyncio.create_task(self.process.stop(drain_timeout_s=0))
        await stopping
        if reporter is not None:
            await reporter.finish()
        return 0


async def first_of(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def failure(error: Exception, config: Config) -> Failed:
    """The Failed message in plain words: what can't be reached, where, why, and what to do."""
    if isinstance(error, BrokerUnavailable):
        cause = error.__cause__ or error.__context__ or error
        return Failed(
            f"the broker at {redact(config.broker)} can't be reached: {reason_of(cause, config.broker)}.",
            "Does it run there, and may this user in? TASKFLOW_BROKER or TaskFlow(broker=...) says where it is.",
        )
    if isinstance(error, CommandError):
        return Failed(
            f"the store at {parse_server_url(config.store, what='store')} refused a command: {error}.",
            "It must be a Redis 7.0 or later, or a Valkey, that may be written to, and this user must have all rights there.",
        )
    return Failed(str(error))


def warning_for(app: TaskFlow) -> str:
    if app.functions:
        return ""
    return (
        f"app {app.id} has no functions, so this worker takes no events: is the module imported that defines them? "
        "-A names one that imports all of them."
    )


def about(app: TaskFlow, options: WorkerOptions) -> str:
    """The worker in one line: app, functions by queue, broker and store, size."""
    config = app.config
    counts = Counter(function.spec.queue for function in app.functions.values())
    here = [f"{queue} {counts[queue]}" for queue in options.queues]
    elsewhere = [f"{queue} {count}" for queue, count in sorted(counts.items()) if queue not in options.queues]
    functions = f"functions by queue: {', '.join(here)}"
    if elsewhere:
        functions += f" (not served here: {', '.join(elsewhere)})"
    name = f"app {config.app_id} {code_base_of(app).version}"
    size = (
        f"{options.processes} {'process' if options.processes == 1 else 'processes'} x {options.concurrency}"
    )
    return f"{name}, {functions}, broker {redact(config.broker)}, store {redact(config.store)}, {size}"


def serve_beat(link: ChildLink, hello: Hello, *, has_metrics: bool = False) -> int:
    """Run the beat of a worker, in a process of its own; a child's Hello names store and broker. Returns the exit code.

    It is not a thread of a child, so that user code can't delay the crons and timers of all workers, and so that neither the death
    of a child ends the beat, nor the death of the beat a child: the supervisor starts another one.
    """
    # Imported by `preload` before the fork where there is a beat, and nowhere else.
    from taskflow.beat.health import BeatHealth
    from taskflow.beat.main import run_beat

    health = BeatHealth()
    told: Tally | None = None

    def turned() -> None:
        nonlocal told
        link.progress.loop_turned()
        gauges = health.latest.gauges
        if gauges is not told:  # they were read anew
            told = gauges
            tally = Counted(health.metrics().to_json())
            asyncio.get_running_loop().run_in_executor(None, link.send, tally)

    try:
        config = Config.resolve(
            hello.app_id,
            broker=hello.broker_url,
            store=hello.store_url,
            namespace=hello.namespace,
            retention=timedelta(milliseconds=hello.retention_ms),
        )
        return run_beat(
            config,
            on_ready=lambda: link.send(Ready()),
            on_turn=turned,
            health=health,
            has_metrics=has_metrics,
        )
    except (ConfigError, StoreUnavailable) as error:
        link.send(Failed(f"beat: {error}"))
        return 1
