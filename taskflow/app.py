"""TaskFlow: the functions of a code base, and the front door for code that sends events and starts runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ParamSpec, TypeVar, Unpack, overload
from weakref import WeakKeyDictionary

import orjson

from taskflow.broker.publisher import AsyncPublisher, Publisher
from taskflow.config import Config, Settings
from taskflow.errors import BrokerUnavailable, ConfigError
from taskflow.event import Event, encode_event, pack_messages
from taskflow.function import Function, FunctionOptions, FunctionSpec, build_spec
from taskflow.portal import LoopThread
from taskflow.routing.plan import plan_run
from taskflow.run import Run
from taskflow.runs.control import Steering
from taskflow.signals import encode_signal
from taskflow.store.claims import Hint, events_of, queues_of
from taskflow.store.keys import signal_key
from taskflow.store.session import StoreSession
from taskflow.triggers import TriggerEvent
from taskflow.types import Handler, JsonObject, RunId
from taskflow.values.clock import Clock, SystemClock
from taskflow.values.ids import new_ulid

logger = logging.getLogger("taskflow")

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

MAX_EVENTS = 5_000  # in one call of send (S1.2)
FAILED = "taskflow/function.failed"


class TaskFlow(Steering):
    """An app: one code base with its functions.

        app = TaskFlow("shop", broker="redis://localhost:6379/0")

        @app.function(trigger="shop/order.created")
        async def fulfil(ctx: Context, step: Step) -> str:
            await step.run("reserve", reserve, ctx.event.data["sku"])
            await step.sleep("cool off", "1h")
            return "done"

        app.send("shop/order.created", {"sku": "A7"})

    The keywords are those of `Settings`; each has a TASKFLOW_* variable. Nothing is connected before it is needed.
    Raises ConfigError, and TypeError for a setting that does not exist.
    """

    def __init__(self, app_id: str, **settings: Unpack[Settings]) -> None:
        self.config = Config.resolve(app_id, **settings)
        self.functions: dict[str, Function[Any, Any]] = {}  # by full id, those for failures included
        self.clock: Clock = SystemClock()
        self.publisher = Publisher(
            self.config.broker, app_id=self.config.app_id, send_timeout_ms=self.config.send_timeout_ms
        )
        self.async_publisher = AsyncPublisher(self.publisher)
        self.loop_thread = LoopThread("taskflow-store")
        self.sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, StoreSession] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<TaskFlow {self.id!r}: {len(self.functions)} functions>"

    @property
    def id(self) -> str:
        return self.config.app_id

    # --- functions ---

    @overload
    def function(self, handler: Callable[P, R], /) -> Function[P, R]: ...

    @overload
    def function(self, **options: Unpack[FunctionOptions]) -> Callable[[Callable[P, R]], Function[P, R]]: ...

    # mypy does not see that the keywords here are those of the overload: both unpack the same TypedDict.
    def function(  # type: ignore[misc]
        self, handler: Callable[P, R] | None = None, /, **options: Unpack[FunctionOptions]
    ) -> Function[P, R] | Callable[[Callable[P, R]], Function[P, R]]:
        """Make a handler a durable function. The keywords are those of `FunctionOptions`. Rules S2.1, S2.2, S2.5.

            @app.function(trigger="shop/order.created", retries=2)
            async def fulfil(ctx: Context, step: Step) -> str: ...

        Without options, a plain `@app.function` makes a function that can only be invoked.
        Raises ConfigError when the decorator runs, and TypeError for an option that does not exist.
        """
        if handler is None:
            return lambda handler: self.define(handler, options)
        if not callable(handler):
            raise TypeError(
                f"@app.function takes keywords only, got {handler!r:.80}; to start it by an event write "
                "@app.function(trigger='shop/order.created')"
            )
        return self.define(handler, options)

    def define(self, handler: Callable[P, R], options: FunctionOptions) -> Function[P, R]:
        if options.get("retries") is None:
            options["retries"] = self.config.retries
        if options.get("determinism") is None:
            options["determinism"] = self.config.determinism
        function = Function(handler, spec=build_spec(handler, app_id=self.id, **options), app=self)
        self.register(function)
        if (on_failure := options.get("on_failure")) is not None:
            self.register_failure_handler(function, on_failure)
        return function

    def register(self, function: Function[Any, Any]) -> None:
        spec = function.spec
        known = self.functions.get(spec.id)
        if known is not None:
            raise ConfigError(
                f"function {spec.id!r} exists already, as {known.handler.__module__}.{known.handler.__qualname__}; "
                f"give {function.handler.__module__}.{function.handler.__qualname__} another one: @app.function(id='...')"
            )
        self.functions[spec.id] = function

    def register_failure_handler(self, function: Function[Any, Any], handler: Handler) -> None:
        """`on_failure` is a function like others: it is triggered by the event that tells of the failure."""
        spec = build_spec(
            handler, app_id=self.id, id=f"{function.spec.slug}-on-failure", name=f"{function.spec.name} (on failure)",
            trigger=TriggerEvent(FAILED, expression=f'event.data.function_id == "{function.spec.id}"'),
            retries=function.spec.retries, queue=function.spec.queue, determinism=function.spec.determinism,
        )  # fmt: skip
        self.register(Function(handler, spec=spec, app=self))

    @property
    def specs(self) -> list[FunctionSpec]:
        return [function.spec for function in self.functions.values()]

    # --- events ---

    def send(
        self, event: str | Event | Sequence[Event], data: JsonObject | None = None, *, id: str | None = None,
        ts: int | None = None, user: JsonObject | None = None, v: str | None = None,
    ) -> list[str]:  # fmt: skip
        """Send one event or a list of at most 5,000; return their ids in order. From any thread. Rules S1.2, S1.5.

            app.send("shop/order.created", {"sku": "A7"}, id="order-7")
            app.send([Event("shop/a"), Event("shop/b", {"n": 1})])

        What follows `event` is for an event given by its name; an Event has it as fields. Raises InvalidEvent (nothing is
        published) and, within `send_timeout`, BrokerUnavailable.
        """
        ids, messages = self.encode(event, data, id=id, ts=ts, user=user, v=v)
        self.publisher.publish_events(messages)
        return ids

    async def asend(
        self, event: str | Event | Sequence[Event], data: JsonObject | None = None, *, id: str | None = None,
        ts: int | None = None, user: JsonObject | None = None, v: str | None = None,
    ) -> list[str]:  # fmt: skip
        """As `send`, for async code: never blocks the loop, and sends what is pending in one go."""
        ids, messages = self.encode(event, data, id=id, ts=ts, user=user, v=v)
        await self.async_publisher.publish_events(messages)
        return ids

    def encode(
        self, event: str | Event | Sequence[Event], data: JsonObject | None = None, *, id: str | None = None,
        ts: int | None = None, user: JsonObject | None = None, v: str | None = None,
    ) -> tuple[list[str], list[bytes]]:  # fmt: skip
        """The ids of the events that the arguments of `send` mean, and the broker messages that carry them."""
        if isinstance(event, str):
            events: Sequence[Event] = (
                Event(event, {} if data is None else data, id=id, ts=ts, user=user, v=v),
            )
        else:
            if data is not None or id is not None or ts is not None or user is not None or v is not None:
                raise TypeError(
                    "send(Event) and send([Event, ...]) take no further arguments: they are fields of Event"
                )
            events = (event,) if isinstance(event, Event) else event
        if len(events) > MAX_EVENTS:
            raise ConfigError(
                f"send takes at most {MAX_EVENTS:,} events at a time, but got {len(events):,}: send them in parts"
            )
        now_ms, max_bytes = self.clock.now_ms(), self.config.max_event_bytes
        ids, encoded = [], []
        for one in events:
            public_id, body = encode_event(one, now_ms=now_ms, max_bytes=max_bytes)
            ids.append(public_id)
            encoded.append(body)
        return ids, pack_messages(encoded)

    # --- runs ---

    def invoke(
        self,
        function: Function[..., Any] | str,
        /,
        data: JsonObject | None = None,
        *,
        user: JsonObject | None = None,
    ) -> Run:
        """Start one run of a function of this app, and return its handle; `function` may also be "app/function".

        Raises ConfigError for an unknown function, InvalidEvent, StoreUnavailable.
        """
        return self.block_on(lambda: self.ainvoke(function, data, user=user))

    async def ainvoke(
        self,
        function: Function[..., Any] | str,
        /,
        data: JsonObject | None = None,
        *,
        user: JsonObject | None = None,
    ) -> Run:
        """See `invoke`."""
        session = self.session()
        spec = await self.find_spec(function, session)
        now_ms = self.clock.now_ms()
        uid = new_ulid(now_ms)
        event = Event("taskflow/function.invoked", data or {}, user=user)
        _, encoded = encode_event(
            event, now_ms=now_ms, max_bytes=self.config.max_event_bytes, uid=uid, internal=True
        )
        plan = plan_run(spec, orjson.loads(encoded))
        async with session.deadline() as store:
            hints = await store.routing.start_run(
                plan,
                uid=uid,
                name=event.name,
                event=encoded,
                cause="invoke",
                version=self.config.app_version,
                now_ms=now_ms,
            )
        await self.send_hints(hints)
        return Run(plan.run_id, self)

    async def find_spec(self, function: Function[..., Any] | str, session: StoreSession) -> FunctionSpec:
        if isinstance(function, Function):
            return function.spec
        known = self.functions.get(function)
        if known is not None:
            return known.spec
        async with session.deadline() as store:
            manifest = await store.registry.manifest(function)
        if manifest is None:
            raise ConfigError(
                f"there is no function {function!r}: this app has {sorted(self.functions) or 'none'}, and no worker has "
                "registered it. An id is 'app/function'."
            )
        return FunctionSpec.from_manifest(orjson.loads(manifest))

    def run(self, run_id: str) -> Run:
        """The handle of a run whose id is known; nothing is looked up yet."""
        return Run(RunId(run_id), self)

    async def send_hints(self, hints: Sequence[Hint]) -> None:
        """Tell workers of ready runs and ended ones. A failure costs time, nothing else: the reaper sends what is missing."""
        try:
            for app_id, queues in queues_of(hints).items():
                await self.async_publisher.publish_work(queues, app_id=app_id)
            if events := events_of(hints):
                await self.async_publisher.publish_events(pack_messages([event for _, event in events]))
                async with self.session().deadline() as store:
                    await store.routing.clear_outbox([uid for uid, _ in events])
        except BrokerUnavailable as error:
            logger.warning("%s What it is to be told is stored, and sent once the broker is back.", error)

    def send_signal(self, name: str, data: Any = None) -> bool:
        """Resume the run of this app that waits for the signal, with JSON for it; whether one did. Rule S3.4.

            if not app.send_signal("approve-7", {"by": "ann"}): ...

        Raises NonRetriableError for a name or data that can't be sent, SerializationError, StoreUnavailable.
        """
        return self.block_on(lambda: self.asend_signal(name, data))

    async def asend_signal(self, name: str, data: Any = None) -> bool:
        """See `send_signal`."""
        return await self.resume_by_signal(name, data) is not None

    async def resume_by_signal(self, name: str, data: Any) -> str | None:
        """The id of the run that got the signal, or None."""
        body = encode_signal(name, data, max_bytes=self.config.max_event_bytes)
        now_ms = self.clock.now_ms()
        async with self.session().deadline() as store:
            run_id, hints = await store.routing.send_signal(
                signal_key(self.id, name), body, uid=new_ulid(now_ms), now_ms=now_ms
            )
        await self.send_hints(hints)
        return run_id

    # --- what handles need (RunReader) ---

    def session(self) -> StoreSession:
        """The store for the running loop."""
        loop = asyncio.get_running_loop()
        session = self.sessions.get(loop)
        if session is None:
            session = self.sessions[loop] = StoreSession(self.config.store, self.config.namespace)
        return session

    def block_on(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return self.loop_thread.run(make)

    async def run_fields(self, run_id: str, *names: str) -> list[bytes | None]:
        return await self.session().run_fields(run_id, *names)

    async def wait_until_done(self, run_id: str, timeout_s: float | None) -> None:
        await self.session().wait_until_done(run_id, timeout_s)

    def close(self) -> None:
        """Close connections of sync code, and end its threads; the app can be used again."""
        if self.loop_thread.is_running and not self.loop_thread.is_current:
            self.loop_thread.run(self.close_session)
            self.loop_thread.stop()
        self.async_publisher.close()
        self.publisher.close()

    async def aclose(self) -> None:
        """Close this loop's connection to the store, and what sync code has opened."""
        await self.close_session()
        self.close()

    async def close_session(self) -> None:
        session = self.sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()
