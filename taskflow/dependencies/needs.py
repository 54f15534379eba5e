"""Needs: the parameters of a function that are marked with `Depends`, read from its signature once. Rule S11.5."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from types import CodeType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin
from weakref import WeakKeyDictionary

from taskflow.context import Context
from taskflow.dependencies.depends import SCOPES, Dependency, Provider, Scope
from taskflow.errors import ConfigError
from taskflow.values.hints import evaluated
from taskflow.values.record import record

Kind = Literal["function", "async function", "generator", "async generator"]

BY_NAME = 1 << 20  # the place of a parameter that is given by its name only


@record
class Node:
    """A dependency with all that it needs itself; `context_names` are the parameters that get the run's context."""

    provider: Provider
    scope: Scope
    kind: Kind
    needs: Needs
    context_names: tuple[str, ...]

    def __str__(self) -> str:
        return name_of(self.provider)


class Need(NamedTuple):
    """A parameter that is to be filled in; `place` is its position."""

    name: str
    place: int
    node: Node


Needs = tuple[Need, ...]
NO_NEEDS: Needs = ()

plain: dict[int, CodeType] = {}
"""The code objects, by their ids, of functions that have no needs unless a default is marked. A step's function is looked up in
each attempt, so whoever asks looks here first: `fn.__defaults__ is None and id(fn.__code__) in plain`."""

read: WeakKeyDictionary[Callable[..., Any], Needs] = WeakKeyDictionary()


def needs_of(fn: Callable[..., Any]) -> Needs:
    """The needs of a step's function. Raises ConfigError."""
    try:
        known = read.get(fn)
    except TypeError:  # it can't be a key
        return needs_in(fn)
    if known is None:
        known = needs_in(fn)
        code = getattr(fn, "__code__", None)
        # All functions that one decorator wraps share the code of the wrapper.
        if not known and code is not None and not code.co_kwonlyargcount and not hasattr(fn, "__wrapped__"):
            plain[id(code)] = code
        try:
            read[fn] = known
        except TypeError:  # no weak reference to it
            return known
    return known


def needs_in(fn: Callable[..., Any], path: tuple[Provider, ...] = ()) -> Needs:
    """Read the signature of a function. `path` are the providers on the way to it."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):  # a built-in, for example
        return NO_NEEDS
    needs = []
    for place, parameter in enumerate(parameters):
        mark = mark_of(parameter, fn)
        if mark is not None:
            is_by_name = parameter.kind is parameter.KEYWORD_ONLY
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise ConfigError(
                    f"{name_of(fn)}: {parameter.name} is marked with Depends, so it must not stand before a /"
                )
            needs.append(
                Need(
                    parameter.name, BY_NAME if is_by_name else place, node_of(mark.provider, mark.scope, path)
                )
            )
    return tuple(needs)


def mark_of(parameter: inspect.Parameter, fn: Callable[..., Any]) -> Dependency | None:
    if type(parameter.default) is Dependency:
        return parameter.default
    hint = hint_of(parameter, fn)
    if get_origin(hint) is not Annotated:
        return None
    marks = [each for each in get_args(hint)[1:] if type(each) is Dependency]
    if len(marks) > 1:
        raise ConfigError(f"{name_of(fn)}: {parameter.name} is marked with Depends {len(marks)} times")
    return marks[0] if marks else None


def hint_of(parameter: inspect.Parameter, fn: Callable[..., Any]) -> Any:
    """The annotation as a type. One that can't be read counts as none, unless it seems to be marked."""
    annotation = parameter.annotation
    if not isinstance(annotation, str):
        return annotation
    try:
        return evaluated(annotation, fn, with_extras=True)
    except Exception as error:
        if "Annotated" not in annotation and "Depends" not in annotation:
            return None
        raise ConfigError(
            f"{name_of(fn)}: the annotation of {parameter.name}, {annotation!r:.120}, can't be read "
            f"({type(error).__name__}: {error}). Its names must be known in the module, not in a function or under TYPE_CHECKING "
            f"alone; or write {parameter.name}: ... = Depends(...)"
        ) from error


def node_of(provider: Provider, scope: Scope, path: tuple[Provider, ...] = ()) -> Node:
    """The dependency that a mark names, with all that it needs. Raises ConfigError for a circle, or one that ends too soon."""
    if provider in path:
        circle = " -> ".join(map(name_of, (*path[path.index(provider) :], provider)))
        raise ConfigError(f"dependencies need each other in a circle: {circle}")
    needs = needs_in(provider, (*path, provider))
    for need in needs:
        if SCOPES.index(need.node.scope) > SCOPES.index(scope):
            raise ConfigError(
                f"{name_of(provider)} has scope {scope!r}, but needs {need.node} of scope {need.node.scope!r}, which does not last "
                f"as long; give {need.node} scope {scope!r}, or {name_of(provider)} scope {need.node.scope!r}"
            )
    context_names = contexts_in(provider, {need.name for need in needs})
    if context_names and scope == "process":
        raise ConfigError(
            f"{name_of(provider)} has scope 'process', so it serves many runs and can't get the context of one"
        )
    return Node(provider, scope, kind_of(provider), needs, context_names)


def contexts_in(provider: Provider, filled: set[str]) -> tuple[str, ...]:
    """The parameters that get the context. Raises ConfigError for others that nobody fills in."""
    try:
        parameters = list(inspect.signature(provider).parameters.values())
    except (TypeError, ValueError):
        return ()
    names = []
    for parameter in parameters:
        if parameter.name in filled or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        hint = hint_of(parameter, provider)
        if hint is Context or get_origin(hint) is Context:
            names.append(parameter.name)
        elif parameter.default is parameter.empty:
            raise ConfigError(
                f"the provider {name_of(provider)} has a parameter {parameter.name} that nobody fills in: mark it with Depends, "
                "annotate it with Context, or give it a default"
            )
    return tuple(names)


def kind_of(provider: Provider) -> Kind:
    target: Any = inspect.unwrap(provider)
    if not inspect.isroutine(target) and not isinstance(target, type):
        target = getattr(target, "func", None) or type(target).__call__
    if inspect.isasyncgenfunction(target):
        return "async generator"
    if inspect.isgeneratorfunction(target):
        return "generator"
    return "async function" if inspect.iscoroutinefunction(target) else "function"


@lru_cache(maxsize=256)
def override_node(provider: Provider, scope: Scope) -> Node:
    """The dependency that stands in for another one in a test."""
    return node_of(provider, scope)


def name_of(fn: Any) -> str:
    return getattr(fn, "__qualname__", None) or repr(fn)[:80]
