"""Function: the object that @app.function makes of a handler. Every option is checked when the decorator runs.

Rules S2.1, S2.4 and S2.5.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import field
from functools import lru_cache
from typing import Any, Generic, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, cast, overload

import orjson

from taskflow.config import MAX_SLUG_CHARS, Determinism, check_determinism, check_slug
from taskflow.errors import ConfigError
from taskflow.event import RESERVED_PREFIX, Event
from taskflow.flow.checks import period_ms
from taskflow.flow.options import NO_FLOW_CONTROL, FlowControl, FlowOptions
from taskflow.handler_shape import handler_shape
from taskflow.headers import Headers
from taskflow.middleware.base import Middleware
from taskflow.middleware.hooks import Hooks
from taskflow.retries import Exceptions, Retries
from taskflow.run import Run
from taskflow.timeouts import Timeouts
from taskflow.triggers import Trigger, TriggerEvent, parse_triggers
from taskflow.types import Duration, FunctionId, Handler, JsonObject, When
from taskflow.values.durations import MAX_DURATION_MS, parse_duration_ms, parse_when_ms
from taskflow.values.keywords import check_keywords
from taskflow.values.manifest import NoManifest, from_manifest, to_manifest
from taskflow.values.record import record
from taskflow.values.returns import return_shape
from taskflow.values.shape import Shape

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
T = TypeVar("T")

MAX_NAME_CHARS = 128
NO_TIMEOUTS = Timeouts()
DEFAULT_RETRIES = Retries()


@record(kw_only=True)
class FunctionSpec:
    """The description of a function without its code; `build_spec` makes it of the decorator's options.

    `slug` is the id within the app, `id` the full id: "app_id/slug". `name` is for people.
    """

    app_id: str
    slug: str
    name: str
    triggers: tuple[Trigger, ...] = ()
    retries: Retries = DEFAULT_RETRIES
    timeouts: Timeouts = NO_TIMEOUTS
    queue: str = "default"
    determinism: Determinism = "warn"
    flow: FlowControl = NO_FLOW_CONTROL
    keep_ms: int | None = None
    keep_failed_ms: int | None = None
    id: FunctionId = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", FunctionId(f"{self.app_id}/{self.slug}"))

    @property
    def keep(self) -> str:
        """How long (ms) runs, and failed runs, are kept, as scripts read it: "3600000 "; empty if the app's setting holds."""
        if self.keep_ms is None and self.keep_failed_ms is None:
            return ""
        return f"{self.keep_ms or ''} {self.keep_failed_ms or ''}"

    def manifest(self) -> JsonObject:
        """The spec as a JSON object, which workers register in the store."""
        manifest: JsonObject = to_manifest(self)
        return manifest

    @classmethod
    def from_manifest(cls, manifest: JsonObject) -> FunctionSpec:
        """Read a spec that `manifest()` wrote. Raises ConfigError if this version of taskflow can't read it."""
        try:
            return from_manifest(cls, manifest)
        except NoManifest as problem:
            raise ConfigError(
                f"expected the manifest of a function, but {problem}; do all workers of the app run the same version of taskflow?"
            ) from problem


@lru_cache(maxsize=1024)
def read_spec(manifest: bytes) -> FunctionSpec:
    """Read a spec of the JSON in the store; each invoke reads the function's. Raises ConfigError."""
    return FunctionSpec.from_manifest(orjson.loads(manifest))


class InvokeOptions(TypedDict, total=False):
    """The options of an invoke; None counts as left out.

    id       the run's own: a second invoke of the function with it within 24 h makes no run, and returns the first one (S1.3)
    user     a JSON object: who asks for the run
    headers  short strings by name, which the run and all that it sends and starts inherit (S11.1)
    delay    a duration before the run may begin, at most 1 year; the run takes no worker's time meanwhile
    at       the moment when the run may begin, in place of `delay`; the past means now
    queue    the queue in which the run executes, in place of the function's (S7.2); a worker must serve it (`-Q`)
    """

    id: str | None
    user: JsonObject | None
    headers: Headers | None
    delay: Duration | None
    at: When | None
    queue: str | None


def start_ms(options: InvokeOptions, *, now_ms: int) -> int:
    """When (ms since the epoch) the run may begin; 0 for at once. Raises ConfigError for both, InvalidDuration for a wrong one."""
    delay, at = options.get("delay"), options.get("at")
    if delay is not None and at is not None:
        raise ConfigError("invoke() takes delay=... or at=..., not both")
    if at is not None:
        return parse_when_ms(at, now_ms=now_ms, what="at")
    return 0 if delay is None else now_ms + parse_duration_ms(delay, what="delay")


class FunctionApp(Protocol):
    """The methods of the app that a Function needs."""

    def send(self, event: Event, /, *, delay: Duration | None = None) -> list[str]:
        """Send the event, whose runs may begin after `delay`; return its id, in a list. Rules S1.2, S1.4."""
        ...

    def invoke(
        self, function_id: FunctionId, /, data: JsonObject | None, **options: Unpack[InvokeOptions]
    ) -> Run[Any]:
        """Start a run of the function."""
        ...

    async def ainvoke(
        self, function_id: FunctionId, /, data: JsonObject | None, **options: Unpack[InvokeOptions]
    ) -> Run[Any]:
        """Start a run of the function, without blocking the loop."""
        ...


class Function(Generic[P, R]):
    """A durable function: a decorated handler. Rule S2.1.

        fulfil.send({"sku": "A7"})      # by the event of its trigger
        fulfil.invoke({"sku": "A7"})    # this function alone; returns the run
        fulfil(ctx, step)               # the plain handler, for a unit test

    Raises ConfigError for a handler that can't be called with `(ctx)` or `(ctx, step)`.
    """

    def __init__(
        self, handler: Callable[P, R], *, spec: FunctionSpec, app: FunctionApp, output: Shape | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:  # fmt: skip
        """`output` is the shape of the result, by default that of its annotation (S11.3); `middleware` the app's and its own."""
        self.spec = spec
        self.handler = handler
        self._output = output
        shape = handler_shape(handler, what=f"function {spec.id!r}: the handler")
        self.takes_step = shape.takes_step
        """Whether the handler is called with `(ctx, step)` rather than `(ctx)`."""
        self.is_async = shape.is_async
        """Whether the handler is `async def`."""
        self.middleware = tuple(middleware)
        hooks = Hooks(self.middleware) if self.middleware else None
        self.hooks = hooks if hooks is not None and hooks.are_in_runs else None
        """The methods that its middleware overrides and that a run calls; None without any."""
        # Made once, since each run needs them: the name of its result in errors, and the time limit of its body (S4.7).
        self._result_name = f"the result of {spec.id}"
        self._body_limit_ms = spec.timeouts.step_ms
        self._app = app
        functools.update_wrapper(self, handler)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.handler(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Function {self.spec.id}>"

    @property
    def id(self) -> FunctionId:
        """The full id of the function: "app_id/slug"."""
        return self.spec.id

    @property
    def output(self) -> Shape:
        """The shape of the handler's result. The annotation is read at the first use, as its classes may be defined later."""
        if self._output is None:
            self._output = return_shape(self.handler)
        return self._output

    def send(
        self,
        data: JsonObject | None = None,
        *,
        id: str | None = None,
        ts: int | None = None,
        delay: Duration | None = None,
        user: JsonObject | None = None,
        headers: Headers | None = None,
    ) -> str:
        """Send the event of this function's first trigger with a full name; return the event's id. Arguments as of `app.send`
        (S1.2).

        Other functions with that trigger start as well. Raises ConfigError if the function has no such trigger, InvalidEvent,
        BrokerUnavailable.
        """
        event = Event(
            self._event_name(), {} if data is None else data, id=id, ts=ts, user=user, headers=headers
        )
        return self._app.send(event, delay=delay)[0]

    @overload
    def invoke(
        self: Function[P, Coroutine[Any, Any, T]],
        data: JsonObject | None = None,
        **options: Unpack[InvokeOptions],
    ) -> Run[T]: ...

    @overload
    def invoke(
        self: Function[P, T], data: JsonObject | None = None, **options: Unpack[InvokeOptions]
    ) -> Run[T]: ...

    def invoke(self, data: JsonObject | None = None, **options: Unpack[InvokeOptions]) -> Run[Any]:
        """Start one run of this function alone, whatever its triggers, and return its handle. See `TaskFlow.invoke`."""
        return self._app.invoke(self.spec.id, data, **options)

    @overload
    async def ainvoke(
        self: Function[P, Coroutine[Any, Any, T]],
        data: JsonObject | None = None,
        **options: Unpack[InvokeOptions],
    ) -> Run[T]: ...

    @overload
    async def ainvoke(
        self: Function[P, T], data: JsonObject | None = None, **options: Unpack[InvokeOptions]
    ) -> Run[T]: ...

    async def ainvoke(self, data: JsonObject | None = None, **options: Unpack[InvokeOptions]) -> Run[Any]:
        """As `invoke`, for async code. It never blocks the loop."""
        return await self._app.ainvoke(self.spec.id, data, **options)

    def _event_name(self) -> str:
        for trigger in self.spec.triggers:
            if not isinstance(trigger, TriggerEvent) or trigger.is_pattern:
                continue
            if not trigger.event.startswith(RESERVED_PREFIX):
                return trigger.event
        raise ConfigError(
            f"function {self.spec.id!r}: send() needs a trigger with the full name of an event, "
            f"but the triggers are {list(self.spec.triggers)!r}; use invoke() or ainvoke()"
        )


class FunctionOptions(FlowOptions, total=False):
    """The options of `@app.function`; None counts as left out. `FlowOptions` has those of flow control.

    trigger      what starts the function: the name of an event, a TriggerEvent, a TriggerCron, or a list of at most 10; without one
                 the function can only be invoked (S2.2)
    id           the id within the app; by default the handler's name with "-" for "_" (S2.1)
    name         the name for people; by default the id
    retries      number of attempts after the first one, for each step and for the code between the steps; or a Retries (S5.1); by
                 default the app's setting
    retry_on     an exception class, or a tuple: only after these another attempt is made; others end the step or run (S5.3)
    give_up_on   an exception class, or a tuple: after these no other attempt is made (S5.3)
    timeouts     how long a run and its steps may take: a Timeouts (S6.3)
    queue        the queue of its runs; only workers that serve it (`-Q`) execute them; by default "default" (S7.2)
    determinism  "strict" fails a run whose replay calls the steps in another order (S4.5); by default the app's setting
    keep         how long runs are kept after their end, a duration from 1 s to 366 days (S10.1); by default the app's retention
    keep_failed  how long failed runs are kept (S10.1); by default the app's failed_retention
    output_type  the type of the result, if the handler is not annotated with it (S11.3)
    middleware   a list of Middleware, inside that of the app (S11.4)
    on_failure   a handler that gets the event `taskflow/function.failed` when a run has failed (S5.5)
    """

    trigger: str | Trigger | Sequence[str | Trigger] | None
    id: str | None
    name: str | None
    retries: int | Retries | None
    retry_on: Exceptions | None
    give_up_on: Exceptions | None
    timeouts: Timeouts | None
    queue: str | None
    determinism: Determinism | None
    keep: Duration | None
    keep_failed: Duration | None
    output_type: Any
    middleware: Sequence[Middleware] | None
    on_failure: Handler | None


def id_of(function: Function[..., Any] | str) -> str:
    """The full id of a function, which is given as the object or as its id."""
    return function.id if isinstance(function, Function) else function


def build_spec(handler: Handler, *, app_id: str, **options: Unpack[FunctionOptions]) -> FunctionSpec:
    """Make the spec of a function, and check all of its options. Rules S2.1, S2.2 and S2.5.

    Raises ConfigError, which names function, option, value and remedy, and TypeError for an option that does not exist.
    """
    check_keywords(options, FunctionOptions, what="@app.function()")
    check_slug(app_id, what="app_id")
    slug = options.get("id")
    slug = check_slug(default_slug(handler) if slug is None else slug, what="the id of a function")
    try:
        return checked_spec(handler, app_id, slug, options)
    except ConfigError as error:
        raise ConfigError(f"function {f'{app_id}/{slug}'!r}: {error}") from error


def checked_spec(handler: Handler, app_id: str, slug: str, options: FunctionOptions) -> FunctionSpec:
    handler_shape(handler, what="the handler")
    on_failure, name, timeouts = options.get("on_failure"), options.get("name"), options.get("timeouts")
    queue, determinism = options.get("queue"), options.get("determinism")
    if on_failure is not None:
        handler_shape(on_failure, what="on_failure")
    if name is not None and not (isinstance(name, str) and 1 <= len(name) <= MAX_NAME_CHARS):
        raise ConfigError(f"name must be a str of 1 to {MAX_NAME_CHARS} characters, got {name!r:.80}")
    if timeouts is not None and not isinstance(timeouts, Timeouts):
        raise ConfigError(f"timeouts must be a Timeouts, got {timeouts!r:.80}; write Timeouts(finish='1h')")
    flow = {option: value for option, value in options.items() if option in FlowOptions.__optional_keys__}
    return FunctionSpec(
        app_id=app_id,
        slug=slug,
        name=slug if name is None else name,
        triggers=parse_triggers(options.get("trigger")),
        retries=Retries.of(
            options.get("retries"), retry_on=options.get("retry_on"), give_up_on=options.get("give_up_on")
        ),
        timeouts=NO_TIMEOUTS if timeouts is None else timeouts,
        queue="default" if queue is None else check_slug(queue, what="queue"),
        determinism="warn" if determinism is None else check_determinism(determinism, what="determinism"),
        flow=FlowControl.of(**cast(FlowOptions, flow)),
        keep_ms=kept_ms("keep", options.get("keep")),
        keep_failed_ms=kept_ms("keep_failed", options.get("keep_failed")),
    )


def kept_ms(option: str, value: Duration | None) -> int | None:
    return None if value is None else period_ms(option, value, at_most_ms=MAX_DURATION_MS)


def default_slug(handler: Handler) -> str:
    name = getattr(handler, "__name__", "")
    slug = name.replace("_", "-").strip("-")[:MAX_SLUG_CHARS]
    if not name or name == "<lambda>" or not slug:
        raise ConfigError(
            f"a function's id comes from the handler's name, and {handler!r:.100} has none; pass id='...'"
        )
    return slug
