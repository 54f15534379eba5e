"""Annotations that are texts, as types."""

from __future__ import annotations

import functools
import inspect
from types import SimpleNamespace
from typing import Any, get_type_hints


def target_of(fn: Any) -> Any:
    """The plain function behind a partial, a decorator, a method or a callable object."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if not inspect.isroutine(fn) and not isinstance(fn, type) and callable(fn):
        fn = getattr(fn, "__wrapped__", None) or type(fn).__call__
    return inspect.unwrap(getattr(fn, "__func__", fn))


def evaluated(annotation: Any, fn: Any, *, with_extras: bool = False) -> Any:
    """An annotation of `fn` as a type, `with_extras` in its `Annotated`; a text is evaluated with the names that `fn` sees."""
    target = target_of(fn)
    code = getattr(target, "__code__", None)
    cells = getattr(target, "__closure__", None) or ()
    around = {}
    for name, cell in zip(code.co_freevars if code else (), cells, strict=False):
        try:
            around[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    holder = SimpleNamespace(__annotations__={"it": annotation})
    known = getattr(target, "__globals__", {})
    return get_type_hints(holder, globalns=known, localns=around, include_extras=with_extras)["it"]
