"""TaskBody: a task's own code, read once: its parameters, how they are filled, and the handler that calls it. Rule S15.1."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from taskflow.context import Context
from taskflow.dependencies.needs import Needs, hint_of, needs_in
from taskflow.errors import ConfigError, SerializationError
from taskflow.guard import current_limit
from taskflow.handler_shape import is_async
from taskflow.parameters import KINDS, Parameter, Parameters
from taskflow.step import engine_of
from taskflow.tasks.context import TaskContext, current_task
from taskflow.types import JsonObject
from taskflow.values.hints import evaluated
from taskflow.values.shape import ANY, Convert, Mismatch, Shape, items
from taskflow.values.shapes import shape_of

logger = logging.getLogger("taskflow")


class TaskBody:
    """The code of a task. `takes_context`: it is called with the TaskContext before the arguments of the call."""

    __slots__ = ("_shapes", "code", "is_async", "needs", "parameters", "takes_context")

    def __init__(self, code: Callable[..., Any]) -> None:
        """Raises ConfigError for what can't be a task."""
        if not callable(code):
            raise ConfigError(f"a task must be a function, got {type(code).__name__}")
        target = code if inspect.isroutine(code) else inspect.unwrap(getattr(code, "func", code))
        if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
            raise ConfigError("a task must not have a `yield`: calling it would give a generator")
        try:
            parameters = list(inspect.signature(code).parameters.values())
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{code!r:.80} has no signature that Python can show") from error
        if parameters and parameters[0].name in ("self", "cls"):
            raise ConfigError(
                "a task is a function, not a method: what it needs of the object is an argument of it"
            )
        self.code = code
        self.is_async = is_async(target)
        self.needs: Needs = needs_in(code)
        self.takes_context = takes_context(code, parameters)
        filled = {need.name for need in self.needs}
        taken = [each for each in parameters[self.takes_context :] if each.name not in filled]
        self.parameters = Parameters(
            Parameter(each.name, KINDS[each.kind], is_required(each)) for each in taken
        )
        # By name, of the parameters whose annotation needs a conversion; read at the first call, as classes may be defined later.
        self._shapes: Mapping[str, Shape] | None = None

    # --- arguments ---

    @property
    def shapes(self) -> Mapping[str, Shape]:
        if self._shapes is None:
            signature = inspect.signature(self.code).parameters
            found = {
                each.name: annotated_shape(self.code, signature[each.name]) for each in self.parameters.all
            }
            self._shapes = {name: shape for name, shape in found.items() if shape.load or shape.dump}
        return self._shapes

    def dump(self, given: JsonObject, *, what: str) -> JsonObject:
        """The arguments as far as their types ask for a JSON form of their own. Raises TypeError, which names the parameter."""
        for name, shape in self.shapes.items():
            if shape.dump is not None and name in given:
                try:
                    given[name] = shape.dump(given[name])
                except Mismatch as error:
                    raise TypeError(f"{what}: argument {name!r} {error} at {error.where()}") from error
        return given

    def load(self, given: JsonObject, *, what: str) -> JsonObject:
        """The arguments of a call in the types of the annotations. Raises SerializationError, which names the parameter."""
        shapes = self.shapes
        if not shapes:
            return given
        loaded = dict(given)
        for name, shape in shapes.items():
            if shape.load is not None and name in loaded:
                try:
                    loaded[name] = shape.load(loaded[name])
                except Mismatch as error:
                    raise SerializationError(
                        f"{what}: argument {name!r} is no {shape.name}: {error.where()} {error}"
                    ) from error
        return loaded

    # --- the call ---

    def handler(self, task_id: str) -> Callable[..., Any]:
        """The handler of the function that the task is: it takes `(ctx)`, and calls the code with the arguments of the event."""
        code, spread, takes = self.code, self.parameters.spread, self.takes_context

        def prepared(ctx: Context[Any], needs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
            args, kwargs = spread(self.load(ctx.event.data, what=f"a call of {task_id}"))
            context = TaskContext(task_id, ctx, engine_of(ctx.step).parent)
            # The context of the run's own asyncio task or thread, which ends with the call.
            current_task.set(context)
            return ([context, *args] if takes else args), (kwargs | needs if needs else kwargs)

        async def acall(ctx: Context[Any], **needs: Any) -> Any:
            args, kwargs = prepared(ctx, needs)
            limit = current_limit.get()
            work = code(*args, **kwargs)
            return await (work if limit is None else limit.guarded(work))

        def block(ctx: Context[Any], **needs: Any) -> Any:
            args, kwargs = prepared(ctx, needs)
            limit = current_limit.get()
            return code(*args, **kwargs) if limit is None else limit.call(code, args, kwargs)

        call: Callable[..., Any] = acall if self.is_async else block
        call.__name__, call.__qualname__ = code.__name__, code.__qualname__
        call.__module__, call.__doc__ = code.__module__, code.__doc__
        return call


def takes_context(code: Callable[..., Any], parameters: list[inspect.Parameter]) -> bool:
    """Whether the first parameter is annotated with TaskContext. Raises ConfigError if another one is."""
    marked = [place for place, each in enumerate(parameters) if hint_of(each, code) is TaskContext]
    if marked not in ([], [0]):
        raise ConfigError("the TaskContext must be the first parameter of a task, and the only one")
    return bool(marked)


def is_required(parameter: inspect.Parameter) -> bool:
    gathers = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not gathers


def annotated_shape(code: Callable[..., Any], parameter: inspect.Parameter) -> Shape:
    """The shape of a parameter's values; of `*args` and `**kwargs` that of all of them."""
    if parameter.annotation is parameter.empty:
        return ANY
    try:
        shape = shape_of(evaluated(parameter.annotation, code))
    except Exception as error:  # whatever an annotation comes to when it is evaluated
        logger.warning(
            "task %s: the annotation of %s, %r, can't be read (%s: %s), so its values stay JSON: import the name outside of "
            "TYPE_CHECKING", code.__qualname__, parameter.name, parameter.annotation, type(error).__name__, error,
        )  # fmt: skip
        return ANY
    if parameter.kind is parameter.VAR_POSITIONAL:
        return Shape(shape.name, each_item(shape.load), each_item(shape.dump))
    if parameter.kind is parameter.VAR_KEYWORD:
        return Shape(shape.name, each_member(shape.load), each_member(shape.dump))
    return shape


def each_item(convert: Convert | None) -> Convert | None:
    return None if convert is None else lambda values: items(convert, values)


def each_member(convert: Convert | None) -> Convert | None:
    if convert is None:
        return None
    return lambda members: dict(zip(members, items(convert, members.values()), strict=True))
