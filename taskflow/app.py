"""TaskFlow: the functions of a code base, and the front door for code that sends events and starts runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from taskflow.config import Config, Settings
from taskflow.event import AnyEvent, encode_events, events_of
from taskflow.function import Function, InvokeData, InvokeOptions, id_of
from taskflow.function_options import FunctionOptions
from taskflow.functions import Functions
from taskflow.headers import Headers
from taskflow.lazy_connections import LazyConnections
from taskflow.middleware.base import Middleware
from taskflow.queues import Queues
from taskflow.run import Run, RunView
from taskflow.runs.edits import UNCHANGED, Edits
from taskflow.sending import asend_through_hooks, send_through_hooks
from taskflow.sent import SentEvent
from taskflow.types import Duration, JsonObject, RunId
from taskflow.values.keywords import check_keywords
from taskflow.values.shape import ANY

if TYPE_CHECKING:
    # What connects, and what looks at runs, is imported where it is used.
    from taskflow.connections import Connections
    from taskflow.runs.cancel import LiveRuns
    from taskflow.runs.control import RunControl
    from taskflow.runs.replay import ReplayOptions
    from taskflow.runs.selection import ListedRuns

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class TaskFlow:
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
        self, app_id: str, *, middleware: Sequence[Middleware] = (), **settings: Unpack[Settings]
    ) -> None:
        """`middleware` is that of all functions and sends, the outermost first (S11.4)."""
        self._lazy = LazyConnections(Config.resolve(app_id, **settings))
        self.queues = Queues(lambda: self._link)
        self._functions = Functions(middleware, strict_events=self.config.strict_events)
        # For tests: provider -> the one that stands in for it (S11.5).
        self.dependency_overrides: dict[Callable[..., Any], Callable[..., Any]] = {}
        # By full id, "app/function"; handlers of failures (`on_failure`) are functions too.
        self.functions = self._functions.by_id

    def __repr__(self) -> str:
        return f"<TaskFlow {self.id!r}: {len(self.functions)} functions>"

    @property
    def id(self) -> str:
        return self.config.app_id

    @property
    def config(self) -> Config:
        """The checked settings of the app."""
        return self._lazy.config

    @property
    def _link(self) -> Connections:
        return self._lazy.get()

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
            return send_through_hooks(link, hooks, events)
        ids, messages = encode_events(
            event, data, id=id, ts=ts, user=user, v=v, headers=headers, delay=delay, now_ms=link.clock.now_ms(),
            max_bytes=link.config.max_event_bytes, types=types,
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
            return await asend_through_hooks(link, hooks, events)
        ids, messages = encode_events(
            event, data, id=id, ts=ts, user=user, v=v, headers=headers, delay=delay, now_ms=link.clock.now_ms(),
            max_bytes=link.config.max_event_bytes, types=types,
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
        run_id = await control.invoke(spec, data, version=self.config.app_version, **options)
        known = function if isinstance(function, Function) else self.functions.get(function)
        return Run(run_id, self._link, known.output if known else ANY)

    def run(self, run_id: str) -> Run[Any]:
        """The handle of the run with this id. It looks nothing up before one of its methods is called."""
        return Run(RunId(run_id), self._link)

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
        return SentEvent(event_id, self._link, name)

    # --- for operators ---

    def pause(self, function: Function[..., Any] | str, /, *, cancel_running: bool = False) -> int:
        """Let no run of the function begin or go on until it is resumed; return how many live runs were cancelled. Rule S10.4.

        Events, crons and invokes are recorded as skipped runs, which a replay picks up. Live runs stop before their next step, or
        are cancelled with `cancel_running`. The pause outlasts deploys and restarts of workers. Safe to repeat.
        Raises ConfigError for an unknown function, StoreUnavailable.
        """
        return self._link.block_on(lambda: self.apause(function, cancel_running=cancel_running))

    async def apause(self, function: Function[..., Any] | str, /, *, cancel_running: bool = False) -> int:
        """See `pause`."""
        return await self._control().pause(id_of(function), cancel_running=cancel_running)

    def resume(self, function: Function[..., Any] | str, /) -> bool:
        """Let the runs of a paused function go on; return whether it was paused. Safe to repeat. Rule S10.4.

        Runs that were skipped meanwhile stay skipped until you replay them: `app.replay(function, since=..., status=["skipped"])`.
        Raises StoreUnavailable.
        """
        return self._link.block_on(lambda: self.aresume(function))

    async def aresume(self, function: Function[..., Any] | str, /) -> bool:
        """See `resume`."""
        return (await self._control().resume(id_of(function))).was_paused

    def cancel_runs(
        self,
        function: Function[..., Any] | str | None = None,
        *,
        reason: str = "cancelled in bulk",
        **which: Unpack[LiveRuns],
    ) -> int:
        """Cancel the live runs of a function, or of all functions of this app; return how many. Rules S6.1, S6.2.

            app.cancel_runs(fulfil, status="queued", since="1h")
            app.cancel_runs("shop/fulfil", if_exp="event.data.customer == 'acme'", reason="acme has left")

        `reason` is kept with the runs; the other keywords are those of `LiveRuns`. Runs that execute end after their present steps.
        Raises ConfigError, InvalidDuration, StoreUnavailable.
        """
        return self._link.block_on(lambda: self.acancel_runs(function, reason=reason, **which))

    async def acancel_runs(
        self,
        function: Function[..., Any] | str | None = None,
        *,
        reason: str = "cancelled in bulk",
        **which: Unpack[LiveRuns],
    ) -> int:
        """See `cancel_runs`."""
        from taskflow.runs.cancel import LiveRuns, select_live

        check_keywords(which, LiveRuns, what="cancel_runs")
        functions = await self._functions_with_runs(function)
        selection = select_live(functions, now_ms=self._link.clock.now_ms(), **which)
        return await self._control().cancel_runs(selection, reason=reason)

    def rerun(
        self,
        run_id: str,
        *,
        from_step: str | None = None,
        data: JsonObject | None = None,
        output: Any = UNCHANGED,
    ) -> Run[Any]:
        """Run a run that has ended anew, and return the new run. Rule S10.3.

            app.rerun(run_id)
            app.rerun(run_id, data={"sku": "A8"})                         # with other data
            app.rerun(run_id, from_step="charge")                         # steps that ended before it are not executed again
            app.rerun(run_id, from_step="charge", output={"paid": True})  # nor is this step, which has this result

        Raises RunNotFound, RerunRefused, InvalidEvent, SerializationError, ConfigError when its function is gone, StoreUnavailable.
        """
        return self._link.block_on(lambda: self.arerun(run_id, from_step=from_step, data=data, output=output))

    async def arerun(
        self,
        run_id: str,
        *,
        from_step: str | None = None,
        data: JsonObject | None = None,
        output: Any = UNCHANGED,
    ) -> Run[Any]:
        """See `rerun`."""
        edits = Edits(from_step=from_step, data=data, output=output)
        return self.run(await self._control().rerun(run_id, edits))

    def replay(self, function: Function[..., Any] | str, /, **options: Unpack[ReplayOptions]) -> int:
        """Rerun all runs of a function that failed, were cancelled or were skipped; return how many. Rule S10.3.

            app.replay(fulfil, since="1d")
            app.replay("shop/fulfil", since="2h", status=["failed"], if_exp="event.data.total > 100", over="10m")

        The keywords are those of `ReplayOptions`. A run that was rerun before is left out, since its rerun stands for it.
        Raises ConfigError, InvalidDuration, StoreUnavailable.
        """
        return self._link.block_on(lambda: self.areplay(function, **options))

    async def areplay(self, function: Function[..., Any] | str, /, **options: Unpack[ReplayOptions]) -> int:
        """See `replay`."""
        from taskflow.runs.replay import ReplayOptions, plan_replay

        check_keywords(options, ReplayOptions, what="replay")
        control = self._control()
        spec = await control.spec(function)
        request = plan_replay(spec, now_ms=self._link.clock.now_ms(), **options)
        return await control.replay(request, await control.find_replayed(request))

    def close(self) -> None:
        """Close the connections of sync code, and end its threads. The app can be used again."""
        self._link.close()

    async def aclose(self) -> None:
        """Close this loop's connection to the store, and the connections and threads of sync code."""
        await self._link.aclose()

    def _control(self) -> RunControl:
        return self._link.control(self.functions)

    async def _functions_with_runs(self, function: Function[..., Any] | str | None) -> list[str]:
        """The id of this function, or the ids of all functions of this app. Raises ConfigError for a function that never was."""
        control = self._control()
        if function is None:
            return await control.functions(self.id)
        if isinstance(function, str):
            await control.check_function(function)
        return [id_of(function)]
