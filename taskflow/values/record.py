"""`record`: a frozen dataclass with slots that is made at a quarter of the standard decorator's price.

`@dataclass(frozen=True, slots=True)` compiles six methods for each class, in some 4 million instructions, and a hundred such
classes were half of what a worker did before its first run. Only `__init__` has to be compiled: the other methods are the same
for all classes.

To `dataclasses` a record is a dataclass as any other: `fields`, `replace` and a frozen dataclass that inherits from it work.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")


@overload
def record(kind: type[T], /) -> type[T]: ...


@overload
def record(*, kw_only: bool) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(
    kind: type[T] | None = None, /, *, kw_only: bool = False
) -> type[T] | Callable[[type[T]], type[T]]:
    """Make a frozen dataclass with slots. Methods that the class defines itself stay. It can't inherit from another record."""
    if kind is None:
        return lambda kind: make_record(kind, kw_only=kw_only)
    return make_record(kind, kw_only=kw_only)


def make_record(kind: type[T], *, kw_only: bool) -> type[T]:
    own = set(vars(kind))
    # Where there is no text, `dataclass` would look for the signature of `object.__init__` to write it: 20 ms at the first time.
    kind.__doc__ = kind.__doc__ or kind.__name__
    made = dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(kind)
    parts = fields(made)  # type: ignore[arg-type]
    for name, method in methods_of(made, parts).items():
        if name not in own:
            setattr(made, name, method)
    # So that a frozen dataclass may inherit from it, and none that is not frozen.
    made.__dataclass_params__.frozen = True  # type: ignore[attr-defined]
    return made


def methods_of(kind: type, parts: tuple[Field[Any], ...]) -> dict[str, Callable[..., Any]]:
    compared = [part.name for part in parts if part.compare]
    values: Callable[[Any], Any] = attrgetter(*compared) if compared else lambda it: ()

    def __eq__(self: Any, other: object) -> bool:
        return values(self) == values(other) if type(self) is type(other) else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(values(self))

    return {
        "__init__": compiled_init(kind, parts), "__eq__": __eq__, "__hash__": __hash__, "__repr__": show,
        "__setattr__": refuse_to_set, "__delattr__": refuse_to_delete, "__getstate__": values_of, "__setstate__": set_values,
    }  # fmt: skip


def compiled_init(kind: type, parts: tuple[Field[Any], ...]) -> Callable[..., None]:
    """The `__init__` of a record: it sets the slots past `__setattr__`, and calls `__post_init__` if there is one."""
    given: dict[str, Any] = {"MISSING": MISSING}
    positional, by_keyword, body = ["self"], ["*"], []
    for part in parts:
        if not part.init:
            continue
        name, default, value = part.name, "", part.name
        if part.default is not MISSING:
            given[f"default_{name}"] = part.default
            default = f"=default_{name}"
        elif part.default_factory is not MISSING:
            given[f"make_{name}"] = part.default_factory
            default = "=MISSING"
            value = f"make_{name}() if {name} is MISSING else {name}"
        (by_keyword if part.kw_only else positional).append(f"{name}{default}")
        given[f"set_{name}"] = getattr(kind, name).__set__
        body.append(f"set_{name}(self, {value})")
    if hasattr(kind, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = positional + (by_keyword if len(by_keyword) > 1 else [])
    source = (
        f"def make({', '.join(given)}):\n"
        f" def __init__({', '.join(parameters)}):\n"
        f"  {'; '.join(body) or 'pass'}\n"
        " return __init__"
    )
    made: dict[str, Any] = {}
    exec(source, vars(sys.modules[kind.__module__]), made)
    init: Callable[..., None] = made["make"](**given)
    init.__qualname__ = f"{kind.__qualname__}.__init__"
    init.__annotations__ = {part.name: part.type for part in parts if part.init} | {"return": None}
    return init


def show(self: Any) -> str:
    told = [f"{part.name}={getattr(self, part.name)!r}" for part in fields(self) if part.repr]
    return f"{type(self).__qualname__}({', '.join(told)})"


def refuse_to_set(self: Any, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def refuse_to_delete(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def values_of(self: Any) -> list[Any]:
    """The state for `copy` and `pickle`."""
    return [getattr(self, part.name) for part in fields(self)]


def set_values(self: Any, state: list[Any]) -> None:
    for part, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, part.name, value)
