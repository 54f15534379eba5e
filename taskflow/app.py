"""TaskFlow: the functions of a code base, and the front door for code that sends events and starts runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from taskflow.config import Config, Settings
from taskflow.event import AnyEvent, encode_events, events_of
from taskflow.function import Function, InvokeData, InvokeOptions
from taskflow.function_options import FunctionOptions
from taskflow.headers import Headers
from taskflow.middleware.base import Middleware
from taskflow.operations import Operations
from taskflow.publishing import Publishing
from taskflow.run import Run, RunView
from taskflow.tasks.defining import Tasks
from taskflow.types import Duration, JsonObject
from taskflow.values.keywords import check_keywords
from taskflow.values.shape import ANY

if TYPE_CHECKING:
    from taskflow.codecs.codecs import AnyCodec

    # What looks at runs is imported where it is used.
    from taskflow.queues import Queues
    from taskflow.runs.selection import ListedRuns
    from taskflow.sent import SentEvent
    from taskflow.webhook import F, WebhookOptions

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class TaskFlow(Operations, Publishing, Tasks):
    """An app: one code base with its functions.

        app = TaskFlow("shop", broker="redis://localhost:6379/0")

        @app.function(trigger="shop/order.created")
        async def fulfil(ctx: Context, step: Step) -> str:
            await step.run("reserve", reserve, ctx.event.data["sku"])
            await step.sleep("cool off", "1h")
            return "done"

        app.send("shop/order.created", {"sku": "A7"})

    The keywords are those of `Settings`; each has a TASKFLOW_* variable. The app connects to a server at its first use. Sync
    methods block, and may be called from any thread; a method that waits has an async twin whose name starts with `a`.
    Raises ConfigError, and TypeError for a setting that does not exist.
    """

    def __init__(
        self, app_id: str, *, middleware: Sequence[Middleware] = (), codecs: Sequence[AnyCodec] = (),
        **settings: Unpack[Settings],
    ) -> None:  # fmt: skip
        """`middleware` is that of all functions and sends, the outermost first (S11.4); `codecs`: see S12."""
        super().__init__(Config.resolve(app_id, **settings), middleware, codecs)

    def __repr__(self) -> str:
        return f"<TaskFlow {self.id!r}: {len(self.functions)} functions>"

    @property
    def queues(self) -> Queues:
        """What is in the queues of the app, and how to pause them."""
        from taskflow.queues import Queues

        return Queues(lambda: self._link)

    # --- functions ---

    @overload
    def function(self, handler: Callable[P, R], /) -> Function[P, R]: ...

    @overload
    def function(self, **options: Unpack[FunctionOptions]) -> Callable[[Callable[P, R]], Function[P, R]]: ...

    # mypy does not see that the keywords here are those of the overload: both unpack the same TypedDict.
    def function(  # type: ignore[misc]
        self, handler: Callable[P, R] | None = None, /, **options: Unpack[FunctionOptions]
    ) -> Function[P, R] | Callable[[Callable[P, R]], Function[P, R]]:
        """Make a durable function of a handler. The keywords are those of `FunctionOptions`. Rules S2.1, S2.2, S2.5.

            @app.function(trigger="shop/order.created", retries=2)
            async def fulfil(ctx: Context, step: Step) -> str: ...

        A plain `@app.function`, without options, makes a function that can only be invoked.
        Raises ConfigError when the decorator runs, and TypeError for an option that does not exist.
        """
        if handler is None:
            return lambda handler: self._functions.define(handler, options, app=self, config=self.config)
        if not callable(handler):
            raise TypeError(
                f"@app.function takes keywords only, got {handler!r:.80}; to start it by an event write "
                "@app.function(trigger='shop/order.created')"
            )
        return self._functions.define(handler, options, app=self, config=self.config)

    def webhook(self, name: str, **options: Unpack[WebhookOptions]) -> Callable[[F], F]:
        """Make events of requests to /webhooks/<app>/<name> by this function. Raises ConfigError. Rule S14.7."""
        from taskflow.webhook import define

        return lambda transform: define(self._webhooks, name, transform, options)

    # --- events and signals ---

    def send(
        self, event: str | AnyEvent | Sequence[AnyEvent], data: JsonObject | None = None, *, id: str | None = None,
        ts: int | None = None, delay: Duration | None = None, user: JsonObject | None = None, v: str | None = None,
        headers: Headers | None = None,
    ) -> list[str]:  # fmt: skip
        """Send one event, or a list of at most 5,000; return the ids in order. From any thread. Rules S1.2, S1.5.

            app.send("shop/order.created", {"sku": "A7"}, id="order-7")
            app.send([Event("shop/a"), Event("shop/b", {"n": 1})])
            app.send(OrderCreated(sku="A7"), id="order-7")

        `delay` is a duration before the runs of the events may begin, in place of a `ts` (S1.4). The other arguments are for an
        event that is given by its name; an `Event` has them as fields. A model (`EventModel`, S11.2) has name, data and v; what is
        sent by a name for which the app knows a model is checked by it. Raises InvalidEvent, and then nothing is published;
        ConfigError for more than 5,000 events, InvalidDuration, and BrokerUnavailable, within `send_timeout`.
        """
        link, hooks, types = self._link, self._functions.hooks.wrap_send, self._functions.types
        if hooks:
            events = events_of(
                event, data, id=id, ts=ts, user=user, v=v, headers=headers, delay=delay, now_ms=link.clock.now_ms(), types=types
            )  # fmt: skip
            from taskflow.sending import send_through_hooks

            return send_through_hooks(link, hooks, events)
        ids, messages = encode_events(
            event, data, id=id, ts=ts, user=user, v=v, headers=headers, delay=delay, now_ms=link.clock.now_ms(),
            max_bytes=link.config.max_event_bytes, types=types, codecs=link.codecs,
        )  # fmt: skip
        link.publisher.publish_events(messages)
        return ids

    async def asend(
        self, event: str | AnyEvent | Sequence[AnyEvent], data: JsonObject | None = None, *, id: str | None = None,
        ts: int | None = None, delay: Duration | None = None, user: JsonObject | None = None, v: str | None = None,
        headers: Headers | None = None,
    ) -> list[str]:  # fmt: skip
        """As `send`, for async code. It never blocks the loop, and sends all pending events together."""
        link, hooks, types = self._link, self._functions.hooks.wrap_send, self._functions.types
        if hooks:
            events = events_of(
                event, data, id=id, ts=ts, user=user, v=v, headers=headers, delay=delay, now_ms=link.clock.now_ms(), types=types
            )  # fmt: skip
            from taskflow.sending import asend_through_hooks

            return await asend_through_hooks(link, hooks, events)
        ids, messages = encode_events(
            event, data, id=id, ts=ts, user=user, v=v, headers=headers, delay=delay, now_ms=link.clock.now_ms(),
            max_bytes=link.config.max_event_bytes, types=types, codecs=link.codecs,
        )  # fmt: skip
        await link.async_publisher.publish_events(messages)
        return ids

    def send_signal(self, name: str, data: Any = None) -> bool:
        """Resume the run of this app that waits for the signal; return whether one did. `data` is any JSON. Rule S3.4.

            if not app.send_signal("approve-7", {"by": "ann"}): ...

        Raises NonRetriableError for a wrong name or too much data, SerializationError, StoreUnavailable.
        """
        return self._link.block_on(lambda: self.asend_signal(name, data))

    async def asend_signal(self, name: str, data: Any = None) -> bool:
        """See `send_signal`."""
        return await self._control().signal(self.id, name, data) is not None

    # --- runs ---

    @overload
    def invoke(
        self, function: Function[..., Coroutine[Any, Any, T]], /, data: InvokeData = None,
        **options: Unpack[InvokeOptions],
    ) -> Run[T]: ...  # fmt: skip

    @overload
    def invoke(
        self, function: Function[..., T], /, data: InvokeData = None, **options: Unpack[InvokeOptions]
    ) -> Run[T]: ...

    @overload
    def invoke(
        self, function: str, /, data: InvokeData = None, **options: Unpack[InvokeOptions]
    ) -> Run[Any]: ...

    def invoke(
        self, function: Function[..., Any] | str, /, data: InvokeData = None, **options: Unpack[InvokeOptions]
    ) -> Run[Any]:  # fmt: skip
        """Start one run of a function, whatever its triggers, and return its handle. `function` may also be "app/function".

        The keywords are those of `InvokeOptions`. Raises ConfigError for an unknown function, InvalidEvent, StoreUnavailable.
        """
        return self._link.block_on(lambda: self.ainvoke(function, data, **options))

    @overload
    async def ainvoke(
        self, function: Function[..., Coroutine[Any, Any, T]], /, data: InvokeData = None,
        **options: Unpack[InvokeOptions],
    ) -> Run[T]: ...  # fmt: skip

    @overload
    async def ainvoke(
        self, function: Function[..., T], /, data: InvokeData = None, **options: Unpack[InvokeOptions]
    ) -> Run[T]: ...

    @overload
    async def ainvoke(
        self, function: str, /, data: InvokeData = None, **options: Unpack[InvokeOptions]
    ) -> Run[Any]: ...

    async def ainvoke(
        self, function: Function[..., Any] | str, /, data: InvokeData = None, **options: Unpack[InvokeOptions]
    ) -> Run[Any]:  # fmt: skip
        """See `invoke`."""
        check_keywords(options, InvokeOptions, what="invoke()")
        control = self._control()
        spec = await control.spec(function)
        options["headers"] = self._functions.hooks.headers_of_call(options.get("headers"))
        run_id = await control.invoke(spec, data, version=self.config.app_version, **options)
        known = function if isinstance(function, Function) else self.functions.get(function)
        return Run(run_id, self._link, known.output if known else ANY)

    def runs(
        self, function: Function[..., Any] | str | None = None, *, limit: int = 100, **which: Unpack[ListedRuns]
    ) -> list[RunView]:  # fmt: skip
        """The newest runs of a function, or of all functions of this app, newest first; at most `limit`. Rule S10.2.

            app.runs(fulfil, status="failed", since="1h")

        The other keywords are those of `ListedRuns`. Event and output are left out, as they may be large: `Run.view()` has them.
        Raises ConfigError, InvalidDuration, StoreUnavailable.
        """
        return self._link.block_on(lambda: self.aruns(function, limit=limit, **which))

    async def aruns(
        self, function: Function[..., Any] | str | None = None, *, limit: int = 100, **which: Unpack[ListedRuns]
    ) -> list[RunView]:  # fmt: skip
        """See `runs`."""
        from taskflow.runs.selection import ListedRuns, parse_listed

        check_keywords(which, ListedRuns, what="runs")
        statuses, since_ms = parse_listed(which, now_ms=self._link.clock.now_ms())
        functions = await self._functions_with_runs(function)
        return await self._link.recent_runs(functions, statuses=statuses, since_ms=since_ms, limit=limit)

    def event(self, event_id: str, *, name: str | None = None) -> SentEvent:
        """The handle of the event with the id that `send` returned; if several have it, of the one of `name`, or the newest."""
        from taskflow.sent import SentEvent

        return SentEvent(event_id, self._link, name)
