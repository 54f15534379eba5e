"""Function: the object that @app.function makes of a handler, and its spec. Rules S2.1, S2.4 and S2.5."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import field
from functools import lru_cache
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

import orjson

from taskflow.config import Determinism
from taskflow.dependencies.depends import Provider
from taskflow.dependencies.needs import Needs
from taskflow.errors import ConfigError
from taskflow.event import NO_TYPES, RESERVED_PREFIX, Event
from taskflow.event_type import EventSchema, EventType, EventTypes, OnInvalid, TypedEvent
from taskflow.flow.options import NO_FLOW_CONTROL, FlowControl
from taskflow.handler_shape import handler_shape
from taskflow.headers import Headers
from taskflow.middleware.base import Middleware
from taskflow.middleware.hooks import NO_HOOKS, Hooks
from taskflow.parameters import Parameter
from taskflow.retries import Retries
from taskflow.run import Run
from taskflow.timeouts import Timeouts
from taskflow.triggers import Trigger, TriggerEvent
from taskflow.types import Duration, FunctionId, JsonObject, When
from taskflow.values.durations import parse_duration_ms, parse_when_ms
from taskflow.values.manifest import NoManifest, from_manifest, in_code_only, to_manifest
from taskflow.values.record import record
from taskflow.values.returns import return_shape
from taskflow.values.shape import Shape

if TYPE_CHECKING:
    from taskflow.channel import TopicRef

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
T = TypeVar("T")

NO_TIMEOUTS = Timeouts()
DEFAULT_RETRIES = Retries()


@record(kw_only=True)
class FunctionSpec:
    """The description of a function without its code; `build_spec` makes it of the decorator's options.

    `slug` is the id within the app, `id` the full id: "app_id/slug". `name` is for people. `event_types` are those of its triggers
    and of its option `events`; without the code, `events` has their schemas. `parameters` are those of a task; `expires_ms` and
    `max_crashes` are a task's too (S15.1, S15.2).
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
    event_types: tuple[EventType, ...] = in_code_only(())
    events: tuple[EventSchema, ...] | None = None
    on_invalid: OnInvalid | None = None
    keep_ms: int | None = None
    keep_failed_ms: int | None = None
    parameters: tuple[Parameter, ...] | None = None
    expires_ms: int | None = None
    max_crashes: int | None = None
    id: FunctionId = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", FunctionId(f"{self.app_id}/{self.slug}"))

    @property
    def keep(self) -> str:
        """How long (ms) runs, and failed runs, are kept, as scripts read it: "3600000 "; empty if the app's setting holds."""
        if self.keep_ms is None and self.keep_failed_ms is None:
            return ""
        return f"{'' if self.keep_ms is None else self.keep_ms} {self.keep_failed_ms or ''}"

    @property
    def settings(self) -> str:
        """What scripts must know of the function for any run: as `FlowControl.settings` says, and its own `max_crashes`."""
        if self.max_crashes is None:
            return self.flow.settings
        return f"{self.flow.settings or '- - - -'} {self.max_crashes}"

    def manifest(self) -> JsonObject:
        """The spec as a JSON object, which workers register in the store."""
        manifest: JsonObject = to_manifest(self)
        if self.event_types:
            manifest["events"] = to_manifest(self.schemas)
        return manifest

    @property
    def schemas(self) -> tuple[EventSchema, ...]:
        """The schemas of its event types: of the code where it is here, else as they were registered."""
        return self.events or tuple(EventSchema.of(kind) for kind in self.event_types)

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


InvokeData: TypeAlias = JsonObject | TypedEvent | None
"""The data of an invoke: a JSON object, or a model (S11.2)."""


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


class BodyLimits(NamedTuple):
    """The time limits (ms) of a body; `hard_name` is the option that says the hard one. Rules S4.7, S6.3, S15.2."""

    soft_ms: int | None
    hard_ms: int | None
    hard_name: str

    @classmethod
    def of(cls, timeouts: Timeouts) -> BodyLimits | None:
        """None if there are none."""
        soft_ms, hard_ms, step_ms = timeouts.soft_ms, timeouts.hard_ms, timeouts.step_ms
        if soft_ms is None and hard_ms is None and step_ms is None:
            return None
        return (
            cls(soft_ms, step_ms, "timeouts.step")
            if hard_ms is None
            else cls(soft_ms, hard_ms, "timeouts.hard")
        )


class FunctionApp(Protocol):
    """The methods of the app that a Function needs."""

    dependency_overrides: dict[Provider, Provider]

    def send(self, event: Event, /, *, delay: Duration | None = None) -> list[str]:
        """Send the event, whose runs may begin after `delay`; return its id, in a list. Rules S1.2, S1.4."""
        ...

    def invoke(
        self, function_id: FunctionId, /, data: InvokeData, **options: Unpack[InvokeOptions]
    ) -> Run[Any]:
        """Start a run of the function."""
        ...

    async def ainvoke(
        self, function_id: FunctionId, /, data: InvokeData, **options: Unpack[InvokeOptions]
    ) -> Run[Any]:
        """Start a run of the function, without blocking the loop."""
        ...

    def _publish_of_run(self, topic: TopicRef[Any], data: Any, *, run_id: str) -> Awaitable[None]:
        """Publish a message of a run: on a loop once it is awaited, in a thread at once. Rule S17.1."""
        ...

    async def _apublish_of_run(self, topic: TopicRef[Any], data: Any, *, run_id: str, uid: str) -> None:
        """Publish a message of a run, once for its uid."""
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
        middleware: Sequence[Middleware] = (), types: EventTypes = NO_TYPES, needs: Needs | None = None,
    ) -> None:  # fmt: skip
        """`output` is the shape of the result, by default that of its annotation (S11.3); `middleware` the app's and its own;
        `types` are the app's event types; `needs` the dependencies of the handler, by default those of its signature (S11.5).
        """
        self.spec = spec
        self.handler = handler
        self._output = output
        shape = handler_shape(handler, what=f"function {spec.id!r}: the handler")
        self.takes_step = shape.takes_step
        """Whether the handler is called with `(ctx, step)` rather than `(ctx)`."""
        self.is_async = shape.is_async
        """Whether the handler is `async def`."""
        self.needs = shape.needs if needs is None else needs
        self.middleware = tuple(middleware)
        hooks = Hooks(self.middleware) if self.middleware else NO_HOOKS
        self.hooks = hooks
        """The methods that its middleware overrides."""
        self.is_surrounded = hooks.are_in_runs or bool(self.needs)
        """Whether a run of it has middleware or dependencies around its code."""
        # Made once, since each run needs them: the name of its result in errors, and the time limits of its body (S4.7).
        self._result_name = f"the result of {spec.id}"
        self._body_limits = BodyLimits.of(spec.timeouts)
        self._app = app
        self._types = types
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
    def overrides(self) -> Mapping[Provider, Provider]:
        """The providers that stand in for others in a test (S11.5)."""
        return self._app.dependency_overrides

    @property
    def output(self) -> Shape:
        """The shape of the handler's result. The annotation is read at the first use, as its classes may be defined later."""
        if self._output is None:
            self._output = return_shape(self.handler)
        return self._output

    def send(
        self,
        data: JsonObject | TypedEvent | None = None,
        *,
        id: str | None = None,
        ts: int | None = None,
        delay: Duration | None = None,
        user: JsonObject | None = None,
        headers: Headers | None = None,
    ) -> str:
        """Send the event of this function's first trigger with a full name, or the model `data`; return the event's id. Arguments
        as of `app.send` (S1.2).

        Other functions with that trigger start as well. Raises ConfigError if the function has no such trigger, InvalidEvent,
        BrokerUnavailable.
        """
        if isinstance(data, TypedEvent):
            event = Event.of(data, id=id, ts=ts, user=user, headers=headers)
        else:
            given = {} if data is None else data
            event = Event(self._event_name(), given, id=id, ts=ts, user=user, headers=headers)
        return self._app.send(event, delay=delay)[0]

    @overload
    def invoke(
        self: Function[P, Coroutine[Any, Any, T]],
        data: InvokeData = None,
        **options: Unpack[InvokeOptions],
    ) -> Run[T]: ...

    @overload
    def invoke(self: Function[P, T], data: InvokeData = None, **options: Unpack[InvokeOptions]) -> Run[T]: ...

    def invoke(self, data: InvokeData = None, **options: Unpack[InvokeOptions]) -> Run[Any]:
        """Start one run of this function alone, whatever its triggers, and return its handle. See `TaskFlow.invoke`."""
        return self._app.invoke(self.spec.id, data, **options)

    @overload
    async def ainvoke(
        self: Function[P, Coroutine[Any, Any, T]],
        data: InvokeData = None,
        **options: Unpack[InvokeOptions],
    ) -> Run[T]: ...

    @overload
    async def ainvoke(
        self: Function[P, T], data: InvokeData = None, **options: Unpack[InvokeOptions]
    ) -> Run[T]: ...

    async def ainvoke(self, data: InvokeData = None, **options: Unpack[InvokeOptions]) -> Run[Any]:
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


def id_of(function: Function[..., Any] | str) -> str:
    """The full id of a function, which is given as the object or as its id."""
    return function.id if isinstance(function, Function) else function
