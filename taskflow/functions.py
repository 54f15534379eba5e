"""Functions: the functions of an app, each made of a handler and the options of `@app.function`. Rules S2.1, S2.5, S5.5."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

from taskflow.config import MAX_SLUG_CHARS, Config
from taskflow.errors import ConfigError
from taskflow.event_type import EventTypes
from taskflow.function import Function, FunctionApp
from taskflow.function_options import FunctionOptions, build_spec
from taskflow.middleware.hooks import Hooks, as_sequence
from taskflow.triggers import TriggerEvent
from taskflow.types import Handler
from taskflow.values.shapes import shape_of

P = ParamSpec("P")
R = TypeVar("R")

FAILED = "taskflow/function.failed"


class Functions:
    """The functions of one app, and the types of their events.

    `by_id` has them by full id, "app/function", those that `on_failure` makes too.
    """

    def __init__(
        self,
        middleware: object = (),
        *,
        encrypted: Sequence[tuple[str, ...]] = (),
        strict_events: bool = False,
    ) -> None:
        """`middleware` is that of all functions, the outermost first; `encrypted`: fields of events (S12.2). Raises ConfigError."""
        self.encrypted = encrypted
        self.middleware = as_sequence(middleware, what="middleware")
        # Those of sends; and it is checked here, where the app is made.
        self.hooks = Hooks(self.middleware)
        self.types = EventTypes(strict=strict_events)
        self._by_id: dict[str, Function[Any, Any]] = {}
        self.by_id: Mapping[str, Function[Any, Any]] = MappingProxyType(self._by_id)

    def define(
        self, handler: Callable[P, R], options: FunctionOptions, *, app: FunctionApp, config: Config
    ) -> Function[P, R]:
        """Make a function of the handler. Raises ConfigError, and TypeError for an option that does not exist."""
        output = None if options.get("output_type") is None else shape_of(options["output_type"])
        if options.get("retries") is None:
            options["retries"] = config.retries
        if options.get("determinism") is None:
            options["determinism"] = config.determinism
        spec = build_spec(handler, app_id=config.app_id, **options)
        if self.encrypted:
            from taskflow.encrypted_fields import check_function

            check_function(spec, self.encrypted)
        own = as_sequence(options.get("middleware"), what=f"function {spec.id!r}: middleware")
        function = Function(
            handler, spec=spec, app=app, output=output, middleware=(*self.middleware, *own), types=self.types
        )
        self.register(function, app)
        if (on_failure := options.get("on_failure")) is not None:
            self.register_failure_handler(function, on_failure, app)
        return function

    def register(self, function: Function[Any, Any], app: FunctionApp) -> None:
        """Add a function, and tell its middleware of it. Raises ConfigError for an id that is taken."""
        spec = function.spec
        known = self._by_id.get(spec.id)
        if known is not None:
            raise ConfigError(
                f"function {spec.id!r} exists already, as {known.handler.__module__}.{known.handler.__qualname__}; "
                f"give {function.handler.__module__}.{function.handler.__qualname__} another one: @app.function(id='...')"
            )
        try:
            self.types.add(spec.event_types)
        except ConfigError as error:
            raise ConfigError(f"function {spec.id!r}: {error}") from error
        for each in function.middleware:
            each.on_register(app, function)
        self._by_id[spec.id] = function

    def register_failure_handler(
        self, function: Function[Any, Any], handler: Handler, app: FunctionApp
    ) -> None:
        """Register the handler of `on_failure` as a function that `taskflow/function.failed` of this function starts. Rule S5.5."""
        spec = build_spec(
            handler, app_id=function.spec.app_id, id=failure_slug(function.spec.slug),
            name=f"{function.spec.name} (on failure)",
            trigger=TriggerEvent(FAILED, expression=f'event.data.function_id == "{function.spec.id}"'),
            retries=function.spec.retries, queue=function.spec.queue, determinism=function.spec.determinism,
        )  # fmt: skip
        self.register(
            Function(handler, spec=spec, app=app, middleware=function.middleware, types=self.types), app
        )


def failure_slug(slug: str) -> str:
    """The id of the handler of a function's failures. A task's id may have dots, and be longer than that of a function."""
    tail = "-on-failure"
    return (
        f"{slug.replace('.', '-')[-(MAX_SLUG_CHARS - len(tail)) :].lstrip('-_')}{tail}"
        if "." in slug
        else f"{slug}{tail}"
    )
