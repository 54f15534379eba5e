"""Task: what `@app.task` makes of a function. Called, it is the function; `.delay` has a worker call it. Rule S15.1."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, cast, overload

from taskflow.errors import ConfigError
from taskflow.function import Function, FunctionApp
from taskflow.middleware.hooks import as_sequence
from taskflow.run import Run
from taskflow.tasks.body import TaskBody
from taskflow.tasks.call_options import PLAIN, CallOptions, CallSettings
from taskflow.tasks.calls import CALLS_PAGE, Maker, encode_call, pages_of, start_calls
from taskflow.tasks.canvas_function import define_canvas
from taskflow.tasks.context import TaskContext, current_task
from taskflow.tasks.options import TaskOptions, checked_id, task_spec
from taskflow.tasks.routes import find_route
from taskflow.tasks.signature import Signature
from taskflow.types import JsonObject, RunId
from taskflow.values.returns import return_shape
from taskflow.values.shape import Shape
from taskflow.values.shapes import shape_of

if TYPE_CHECKING:
    from taskflow.call_plans import PlannedCall
    from taskflow.connected_app import ConnectedApp

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
T = TypeVar("T")

INPUT: Any = object()
"""Stands for the result of the task before, while the arguments of a signature are bound."""

Arguments = Sequence[Any] | Mapping[str, Any]
"""The arguments of one call among many: by place, or by name."""


class TaskCalls(Generic[P, R]):
    """Calls of a task with options of their own: `task.options(countdown="10s").delay(2, 3)`. Rule S15.1."""

    __slots__ = ("_settings", "_task")

    def __init__(self, task: Task[Any, Any], settings: CallSettings) -> None:
        self._task = task
        self._settings = settings

    @overload
    def delay(self: TaskCalls[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Run[T]: ...

    @overload
    def delay(self: TaskCalls[P, T], *args: P.args, **kwargs: P.kwargs) -> Run[T]: ...

    def delay(self, *args: Any, **kwargs: Any) -> Run[Any]:
        """Have a worker call the task; return the handle of the run, which exists by then. See `Task.delay`."""
        return self._task._start(self._settings, args, kwargs)

    @overload
    async def adelay(
        self: TaskCalls[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> Run[T]: ...

    @overload
    async def adelay(self: TaskCalls[P, T], *args: P.args, **kwargs: P.kwargs) -> Run[T]: ...

    async def adelay(self, *args: Any, **kwargs: Any) -> Run[Any]:
        """As `delay`, for async code. It never blocks the loop."""
        return await self._task._astart(self._settings, args, kwargs)

    @overload
    def many(self: TaskCalls[P, Coroutine[Any, Any, T]], calls: Iterable[Arguments], /) -> list[Run[T]]: ...

    @overload
    def many(self: TaskCalls[P, T], calls: Iterable[Arguments], /) -> list[Run[T]]: ...

    def many(self, calls: Iterable[Arguments], /) -> list[Run[Any]]:
        """Have the task called for each of these arguments. See `Task.many`."""
        home = self._task._home()
        return home._link.block_on(lambda: self.amany(calls))

    @overload
    async def amany(
        self: TaskCalls[P, Coroutine[Any, Any, T]], calls: Iterable[Arguments], /
    ) -> list[Run[T]]: ...

    @overload
    async def amany(self: TaskCalls[P, T], calls: Iterable[Arguments], /) -> list[Run[T]]: ...

    async def amany(self, calls: Iterable[Arguments], /) -> list[Run[Any]]:
        """As `many`, for async code."""
        if self._settings.id:
            raise ConfigError("an id stands for one call: many() takes none")
        runs: list[Run[Any]] = []
        # A generator is read as far as the store has taken its calls.
        for page in pages_of(calls, 2 * CALLS_PAGE):
            runs += await self._task._start_each(self._settings, [spread(call) for call in page])
        return runs


class Task(Function[P, R]):
    """A task: a decorated function. Rule S15.1.

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    add(2, 3)                  # 5: the plain function
    run = add.delay(2, 3)      # a worker calls it
    run.result(timeout="30s")  # 5
    """

    def __init__(self, code: Callable[..., R], options: TaskOptions) -> None:
        """It belongs to no app before it is adopted. Raises ConfigError for what can't be a task."""
        self._body = TaskBody(code)
        self._options = options
        self.task_id = checked_id(options, code)
        """The id within its app: "module.name" unless given."""
        self._owner: ConnectedApp | None = None
        functools.update_wrapper(self, code)

    def __repr__(self) -> str:
        return f"<Task {self.task_id if self._owner is None else self.spec.id}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if not self._body.takes_context:
            return cast(R, self._body.code(*args, **kwargs))
        context = current_task.get() or TaskContext(self.task_id, None)
        return cast(R, self._body.code(context, *args, **kwargs))

    def _adopt(self, app: ConnectedApp) -> None:
        """Make it a function of the app. Raises ConfigError."""
        options, functions = self._options, app._functions
        handler = self._body.handler(f"{app.config.app_id}/{self.task_id}")
        spec = task_spec(self._body, handler, options, task_id=self.task_id, config=app.config)
        own = as_sequence(options.get("middleware"), what=f"task {spec.id!r}: middleware")
        output = None if options.get("output_type") is None else shape_of(options["output_type"])
        # The app has these methods, in classes that know of tasks.
        home = cast(FunctionApp, app)
        super().__init__(
            handler, spec=spec, app=home, output=output, middleware=(*functions.middleware, *own), types=functions.types,
            needs=self._body.needs,
        )  # fmt: skip
        functools.update_wrapper(self, self._body.code)
        functions.register(self, home)
        if (on_failure := options.get("on_failure")) is not None:
            functions.register_failure_handler(self, on_failure, home)
        self._owner = app
        define_canvas(app)

    def _home(self) -> ConnectedApp:
        """The app that the task belongs to. Raises ConfigError."""
        if self._owner is None:
            raise ConfigError(
                f"task {self.task_id!r} belongs to no app yet: make the TaskFlow before the first call, or adopt the task with "
                "app.adopt(...)"
            )
        return self._owner

    @property
    def _routed(self) -> str:
        """The queue by a rule of the app (S15.4), or empty."""
        routes = self._home()._routes
        rule = find_route(routes, self.task_id) if routes else None
        return "" if rule is None else rule[1]

    @property
    def output(self) -> Shape:
        """The shape of the result. The annotation is read at the first use, as its classes may be defined later."""
        if self._output is None:
            self._output = return_shape(self._body.code)
        return self._output

    # --- calls ---

    @overload
    def delay(self: Task[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Run[T]: ...

    @overload
    def delay(self: Task[P, T], *args: P.args, **kwargs: P.kwargs) -> Run[T]: ...

    def delay(self, *args: Any, **kwargs: Any) -> Run[Any]:
        """Have a worker call the task with these arguments; return the handle of the run. Rules S15.1, S15.2.

            run = add.delay(2, 3)

        The run exists when this returns. Arguments must have a JSON form (S2.6); the task gets them in the types of its
        annotations. Raises TypeError for arguments that do not fit the parameters, SerializationError, InvalidEvent for too much
        data, StoreUnavailable, and ConfigError for a task that belongs to no app.
        """
        return self._start(PLAIN, args, kwargs)

    @overload
    async def adelay(self: Task[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Run[T]: ...

    @overload
    async def adelay(self: Task[P, T], *args: P.args, **kwargs: P.kwargs) -> Run[T]: ...

    async def adelay(self, *args: Any, **kwargs: Any) -> Run[Any]:
        """As `delay`, for async code. It never blocks the loop."""
        return await self._astart(PLAIN, args, kwargs)

    def options(self, **options: Unpack[CallOptions]) -> TaskCalls[P, R]:
        """The same task, with options for its calls: those of `CallOptions`. Rule S15.1.

            add.options(countdown="10s", queue="slow", id="order-7").delay(2, 3)

        Raises ConfigError, InvalidDuration, TypeError for an option that does not exist.
        """
        return TaskCalls(self, CallSettings.of(**options))

    @overload
    def apply_async(
        self: Task[..., Coroutine[Any, Any, T]], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, *,
        task_id: str | None = None, **options: Unpack[CallOptions],
    ) -> Run[T]: ...  # fmt: skip

    @overload
    def apply_async(
        self: Task[..., T], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, *,
        task_id: str | None = None, **options: Unpack[CallOptions],
    ) -> Run[T]: ...  # fmt: skip

    def apply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, *, task_id: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Run[Any]:  # fmt: skip
        """`options(...).delay(...)` in Celery's shape; `task_id` is the option `id`. Type checkers don't see the arguments.

        add.apply_async((2, 3), countdown=10)
        """
        if task_id is not None:
            options["id"] = task_id
        return self._start(CallSettings.of(**options), tuple(args), kwargs or {})

    @overload
    def many(self: Task[P, Coroutine[Any, Any, T]], calls: Iterable[Arguments], /) -> list[Run[T]]: ...

    @overload
    def many(self: Task[P, T], calls: Iterable[Arguments], /) -> list[Run[T]]: ...

    def many(self, calls: Iterable[Arguments], /) -> list[Run[Any]]:
        """Have the task called for each of these arguments: tuples or lists by place, dicts by name. Rule S15.1.

            add.many([(1, 2), (3, 4)])
            resize.many({"photo": each} for each in photos)

        A thousand calls are checked before their runs are made, in two scripts; a generator is read as the store takes its calls.
        When it fails in between, the runs that were made stay. Raises as `delay`.
        """
        return TaskCalls(self, PLAIN).many(calls)

    @overload
    async def amany(self: Task[P, Coroutine[Any, Any, T]], calls: Iterable[Arguments], /) -> list[Run[T]]: ...

    @overload
    async def amany(self: Task[P, T], calls: Iterable[Arguments], /) -> list[Run[T]]: ...

    async def amany(self, calls: Iterable[Arguments], /) -> list[Run[Any]]:
        """As `many`, for async code."""
        return await TaskCalls(self, PLAIN).amany(calls)

    @overload
    def s(self: Task[P, Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> Signature[T]: ...

    @overload
    def s(self: Task[P, T], *args: Any, **kwargs: Any) -> Signature[T]: ...

    def s(self, *args: Any, **kwargs: Any) -> Signature[Any]:
        """A call to be part of a canvas: behind another one it gets that one's result before these arguments. Rule S15.3.

        (add.s(2, 2) | add.s(4)).delay()
        """
        return Signature(self, args, kwargs)

    @overload
    def si(self: Task[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Signature[T]: ...

    @overload
    def si(self: Task[P, T], *args: P.args, **kwargs: P.kwargs) -> Signature[T]: ...

    def si(self, *args: Any, **kwargs: Any) -> Signature[Any]:
        """As `s`, for a call that ignores the result of the one before. Rule S15.3."""
        return Signature(self, args, kwargs, is_immutable=True)

    @overload
    async def step(self: Task[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    async def step(self: Task[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...

    async def step(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task as a step of the durable function that executes, in a run of its own, and await its result. S15.1, S3.6.

            total = await add.step(2, 3)
            totals = await asyncio.gather(*[add.step(n, n) for n in range(100)])

        The id of the step is the function's name. Raises StepError when the task fails or is cancelled, TypeError for arguments
        that do not fit, RuntimeError outside of an `async def` handler.
        """
        # Only handlers need the engine.
        from taskflow.tasks.steps import step_here

        name = getattr(self._body.code, "__name__", self.task_id)
        return await step_here(name).invoke(name, function=self, data=self.arguments(*args, **kwargs))

    def arguments(self, *args: P.args, **kwargs: P.kwargs) -> JsonObject:
        """The arguments of a call as an object, by the names of the parameters: the `data` of an invoke.

            await step.invoke("add", function=add, data=add.arguments(2, 3))

        Raises TypeError for arguments that do not fit the parameters.
        """
        what = self.task_id if self._owner is None else self.spec.id
        given = self._body.parameters.bind(args, kwargs, what=what)
        return self._body.dump(given, what=what) if self._body.shapes else given

    # --- inside ---

    def _sign(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], *, gets_input: bool
    ) -> tuple[JsonObject, Any]:
        """The arguments of a signature by name, and the parameter that gets the result before it; in a list if that is `*args`."""
        self._home()
        what, place = self.spec.id, None
        given = self._body.parameters.bind((INPUT, *args) if gets_input else args, kwargs, what=what)
        if gets_input:
            name = next(name for name, value in given.items() if value is INPUT or INPUT in each_of(value))
            if given[name] is INPUT:
                del given[name]
                place = name
            else:
                given[name] = given[name][1:]
                return self._body.dump(given, what=what), [name]
        return self._body.dump(given, what=what), place

    async def _start_each(
        self, settings: CallSettings, calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]]
    ) -> list[Run[Any]]:
        link, maker = self._home()._link, Maker.here(self._home()._functions.hooks)
        now_ms = link.clock.now_ms()
        planned = [self._plan(settings, args, kwargs, maker, now_ms) for args, kwargs in calls]
        made = await start_calls(link, self.spec, settings, planned, queue=self._routed, now_ms=now_ms)
        return [self._run(run_id) for run_id in made]

    def _plan(
        self,
        settings: CallSettings,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        maker: Maker,
        now_ms: int,
    ) -> PlannedCall:
        link = self._home()._link
        given = self.arguments(*args, **kwargs)
        return encode_call(
            self.spec, given, settings, maker, codecs=link.codecs, now_ms=now_ms, max_bytes=link.config.max_event_bytes
        )  # fmt: skip

    def _start(self, settings: CallSettings, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Run[Any]:
        link = self._home()._link
        now_ms = link.clock.now_ms()
        call = self._plan(settings, args, kwargs, Maker.here(self._home()._functions.hooks), now_ms)
        return self._run(
            link.block_on(
                lambda: start_calls(link, self.spec, settings, (call,), queue=self._routed, now_ms=now_ms)
            )[0]
        )

    async def _astart(
        self, settings: CallSettings, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Run[Any]:
        link = self._home()._link
        now_ms = link.clock.now_ms()
        call = self._plan(settings, args, kwargs, Maker.here(self._home()._functions.hooks), now_ms)
        return self._run(
            (await start_calls(link, self.spec, settings, (call,), queue=self._routed, now_ms=now_ms))[0]
        )

    def _run(self, run_id: RunId) -> Run[Any]:
        return Run(run_id, self._home()._link, self.output)


def each_of(value: Any) -> Sequence[Any]:
    return value if type(value) is list else ()


def spread(call: Arguments) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments of one call among many, by place and by name. Raises TypeError for what is neither."""
    if isinstance(call, Mapping):
        return (), call
    if isinstance(call, (tuple, list)):
        return call, {}
    raise TypeError(
        f"many() takes a tuple, list or dict of arguments for each call, got {call!r:.80}; write (value,) for a single one"
    )
