"""Return annotations of functions as shapes. Rule S11.3."""

from __future__ import annotations

import collections.abc
import inspect
import logging
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any, get_args, get_origin

from taskflow.values.hints import evaluated, target_of
from taskflow.values.shape import ANY, Shape
from taskflow.values.shapes import shape_of

logger = logging.getLogger("taskflow")

AWAITABLES = (collections.abc.Awaitable, collections.abc.Coroutine)

known: dict[int, tuple[CodeType, object, Shape]] = {}
"""id of a code object -> that object, its annotation and its shape. The code object is kept so that no other object gets its id.

A function that is defined anew in each run has the same code, but its annotation may be a class that was defined anew too: then the
annotation is another object, and the entry does not count."""

told: set[str] = set()
"""The functions whose annotations could not be read; each is logged once."""


def output_of(fn: Callable[..., Any], output_type: Any) -> Shape:
    """The shape of what a step returns: that of `output_type` if given, else that of the annotation of `fn`."""
    return return_shape(fn) if output_type is None else shape_of(output_type)


def return_shape(fn: Callable[..., Any]) -> Shape:
    """The shape of what `fn` returns; ANY without an annotation. Each function's code has its shape built once."""
    if not isinstance(fn, FunctionType):
        return described_shape(fn)
    if fn.__dict__:
        # All functions that one decorator wraps share the code of the wrapper, so the wrapped function counts.
        fn = inspect.unwrap(fn)
    annotation = fn.__annotations__.get("return", fn)
    if annotation is fn:
        return ANY
    code = fn.__code__
    found = known.get(id(code))
    if found is not None and found[1] is annotation:
        return found[2]
    shape = described_shape(fn)
    if not isinstance(annotation, str) or not any(name in annotation for name in code.co_freevars):
        known[id(code)] = (code, annotation, shape)
    return shape


def described_shape(fn: Callable[..., Any]) -> Shape:
    if isinstance(fn, type):
        return shape_of(fn)
    target = target_of(fn)
    annotation = getattr(target, "__annotations__", {}).get("return", Any)
    try:
        hint = evaluated(annotation, target)
        if get_origin(hint) in AWAITABLES:
            hint = get_args(hint)[-1]
        return shape_of(hint)
    except Exception as error:  # whatever an annotation comes to when it is evaluated
        name = f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', target)}"
        if name not in told:
            told.add(name)
            logger.warning(
                "%s is annotated to return %r, which can't be read (%s: %s), so its result stays JSON: import the name outside of "
                "TYPE_CHECKING, or give output_type=", name, annotation, type(error).__name__, error,
            )  # fmt: skip
        return ANY
