"""Hooks: which methods the middleware of a function overrides; worked out once, so that a run asks nothing. Rule S11.4."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from taskflow.errors import ConfigError, InvalidEvent, Suspend
from taskflow.headers import NO_HEADERS, Headers, find_header_problem
from taskflow.middleware.base import Middleware

logger = logging.getLogger("taskflow.middleware")

NAMES = tuple(name for name in vars(Middleware) if not name.startswith("_"))
SENDS = ("wrap_send",)
AT_DEFINITION = ("on_register",)
PLAIN = {
    "on_register": "it is called by the decorator, where no loop runs",
    "transform_headers": "it is called where a call is made, in sync code too",
}


class Hook(NamedTuple):
    """A method that a middleware overrides."""

    name: str
    owner: str
    method: Callable[..., Any]
    is_async: bool

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}"


class Hooks:
    """The overridden methods of several middleware, the outermost first: a tuple of them for each name."""

    __slots__ = (*NAMES, "are_wraps_async", "told")

    on_register: tuple[Hook, ...]
    wrap_send: tuple[Hook, ...]
    transform_event: tuple[Hook, ...]
    transform_headers: tuple[Hook, ...]
    wrap_run: tuple[Hook, ...]
    wrap_attempt: tuple[Hook, ...]
    on_run_start: tuple[Hook, ...]
    on_resume: tuple[Hook, ...]
    on_suspend: tuple[Hook, ...]
    on_cancel: tuple[Hook, ...]
    on_run_end: tuple[Hook, ...]
    on_step_start: tuple[Hook, ...]
    on_step_end: tuple[Hook, ...]
    on_retry: tuple[Hook, ...]

    def __init__(self, middleware: Sequence[Middleware] = ()) -> None:
        """Raises ConfigError for what is no middleware, and for a method that has almost the name of a hook."""
        for each in middleware:
            check(each)
        for name in NAMES:
            setattr(self, name, tuple(hook(each, name) for each in middleware if overrides(each, name)))
        self.are_wraps_async = all(each.is_async for each in self.wrap_attempt)
        # (hook, class of error) of the errors that were logged
        self.told: set[tuple[str, type[BaseException]]] = set()

    @property
    def are_in_runs(self) -> bool:
        """Whether any of them is called while a run executes."""
        return any(getattr(self, name) for name in NAMES if name not in AT_DEFINITION)

    def headers_of_call(self, headers: Headers | None) -> Headers | None:
        """The headers that a call gives to its run, through `transform_headers` of each middleware, the first of them first.

        Raises InvalidEvent for what are no headers.
        """
        for hook in self.transform_headers:
            came = hook.method(headers or NO_HEADERS)
            if came is not None:
                if problem := find_header_problem(came):
                    raise InvalidEvent(f"{hook}: {problem}")
                headers = came
        return headers

    async def tell(self, hooks: tuple[Hook, ...], *facts: Any) -> None:
        """Call `on_...` methods. What one raises is logged, once for each class of error, and changes nothing."""
        # Here, since an app that only sends needs none.
        import asyncio

        from taskflow.values.loops import is_being_cancelled

        for each in hooks:
            try:
                came = each.method(*facts)
                if each.is_async or (came is not None and inspect.isawaitable(came)):
                    await came
            except (Suspend, GeneratorExit):
                raise
            except asyncio.CancelledError as error:
                if is_being_cancelled():
                    raise
                self.report(each, error)
            except BaseException as error:
                self.report(each, error)

    def report(self, failed: Hook, error: BaseException) -> None:
        cause = (str(failed), type(error))
        is_new = cause not in self.told
        self.told.add(cause)
        logger.log(
            logging.ERROR if is_new else logging.DEBUG,
            "%s raised %s: %s; the run goes on. Further errors of this class are logged at DEBUG",
            failed, type(error).__name__, error, exc_info=error if is_new else None,
        )  # fmt: skip


def hook(middleware: Middleware, name: str) -> Hook:
    method = getattr(middleware, name)
    return Hook(name, type(middleware).__name__, method, inspect.iscoroutinefunction(method))


def overrides(middleware: Middleware, name: str) -> bool:
    method = getattr(middleware, name)
    return getattr(method, "__func__", method) is not vars(Middleware)[name]


def check(middleware: object) -> None:
    if isinstance(middleware, type) and issubclass(middleware, Middleware):
        raise ConfigError(
            f"middleware takes objects, got the class {middleware.__name__}; write {middleware.__name__}()"
        )
    if not isinstance(middleware, Middleware):
        raise ConfigError(f"middleware must derive from taskflow.Middleware, got {middleware!r:.80}")
    owner = type(middleware).__name__
    for name in dir(middleware):
        if name.startswith(("on_", "wrap_", "transform_")) and name not in NAMES:
            from difflib import get_close_matches

            near = get_close_matches(name, NAMES, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; the hooks are {', '.join(NAMES)}"
            raise ConfigError(
                f"middleware {owner}: {name} is no hook{hint} Begin the name of a helper with _"
            )
    for name, why in PLAIN.items():
        if inspect.iscoroutinefunction(getattr(middleware, name)):
            raise ConfigError(f"middleware {owner}: {name} must be a plain def: {why}")


def as_sequence(option: object, *, what: str) -> tuple[Middleware, ...]:
    """The value of an option `middleware=`. Raises ConfigError."""
    if option is None:
        return ()
    if isinstance(option, Middleware) or not isinstance(option, Sequence) or isinstance(option, str):
        raise ConfigError(f"{what} must be a list of middleware, got {option!r:.80}; write middleware=[...]")
    return tuple(option)


NO_HOOKS = Hooks()
