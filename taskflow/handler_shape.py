"""How a handler is called: `(ctx)` or `(ctx, step)`, async or not. Rule S2.4."""

from __future__ import annotations

import inspect

from taskflow.dependencies.needs import NO_NEEDS, Needs, needs_in
from taskflow.errors import ConfigError
from taskflow.types import Handler
from taskflow.values.record import record


@record
class HandlerShape:
    """How a handler is called: with `(ctx)` or `(ctx, step)`, awaited or not, and with which dependencies (S11.5)."""

    takes_step: bool
    is_async: bool
    needs: Needs = NO_NEEDS


def handler_shape(handler: Handler, *, what: str) -> HandlerShape:
    """How to call `handler`. Raises ConfigError, which names `what`, unless it takes (ctx) or (ctx, step)."""
    if not callable(handler):
        raise ConfigError(f"{what} must be a function, got {type(handler).__name__}")
    how = "write it as `def handler(ctx)` or `def handler(ctx, step)`, with or without async"
    target = handler if inspect.isroutine(handler) else inspect.unwrap(getattr(handler, "func", handler))
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise ConfigError(f"{what} has a `yield`, so calling it gives a generator; {how}")
    try:
        parameters = list(inspect.signature(handler).parameters.values())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what} has no signature that Python can show; {how}") from error
    needs = needs_in(handler)
    filled = {need.name for need in needs}
    parameters = [each for each in parameters if each.name not in filled]
    return HandlerShape(takes_step(parameters, what=what, how=how), is_async(target), needs)


def takes_step(parameters: list[inspect.Parameter], *, what: str, how: str) -> bool:
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [
        p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    required_by_keyword = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if not positional or len(required) > 2 or required_by_keyword:
        raise ConfigError(f"{what} takes ({', '.join(str(p) for p in parameters)}); {how}")
    if positional[0].name in ("self", "cls"):
        raise ConfigError(f"{what} is a method without its object; decorate a function, or {how}")
    return len(required) == 2 or (len(positional) > 1 and positional[1].name == "step")


def is_async(target: Handler) -> bool:
    if inspect.isroutine(target):
        return inspect.iscoroutinefunction(target)
    return inspect.iscoroutinefunction(type(target).__call__)
