"""Builds the shape of each type that an annotation may name. Rule S11.3.

A shape is built once for a type. Types that JSON gives back as they were (str, int, float, bool, None, and lists and dicts of them)
need neither `load` nor `dump`, and cost nothing.
"""

from __future__ import annotations

import collections.abc
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import cache, lru_cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)
from uuid import UUID

import orjson

from taskflow.values.shape import ANY, Convert, Mismatch, Shape, items, items_at, name_of

LISTS = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Iterable,
)
SETS = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)
DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
TEXTS: dict[type, Convert] = {
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    UUID: UUID,
    Decimal: Decimal,
}
"""Types that are a str in JSON, each with the function that reads the str."""


def shape_of(hint: Any) -> Shape:
    """The shape of a type; ANY, which leaves values as JSON, for a type that can't be restored from JSON."""
    try:
        return find_shape(hint)
    except TypeError:  # not hashable, as Literal[[]] is: no type that anybody means
        return ANY


# Bounded, since a class may be made anew in each run.
@lru_cache(maxsize=4096)
def find_shape(hint: Any) -> Shape:
    hint = getattr(hint, "__value__", hint)  # of `type X = ...`
    hint = getattr(hint, "__supertype__", hint)  # of a NewType
    origin, args = get_origin(hint) or hint, get_args(hint)
    if origin is Annotated:
        return shape_of(args[0])
    if origin in (Union, UnionType):
        return union_shape(hint, args)
    if origin is Literal or not isinstance(origin, type):
        return ANY
    if origin in LISTS:
        return list_shape(hint, args)
    if origin in SETS:
        return set_shape(hint, origin, args)
    if origin in DICTS:
        return dict_shape(hint, args)
    if is_typeddict(origin):
        return typed_dict_shape(origin)
    if issubclass(origin, tuple):
        return named_tuple_shape(origin) if hasattr(origin, "_fields") else tuple_shape(hint, args)
    if issubclass(origin, Enum):
        return Shape(name_of(hint), load=enum_loader(origin), kinds=(origin,))
    if origin in TEXTS:
        return Shape(name_of(hint), load=text_loader(origin), kinds=(origin,))
    # pydantic is optional, so its models are known by their methods.
    if hasattr(origin, "model_validate_json") and hasattr(origin, "model_dump"):
        return model_shape(origin)
    if is_dataclass(origin):
        return dataclass_shape(hint, origin, args)
    return ANY


def text_loader(kind: type) -> Convert:
    make = TEXTS[kind]

    def load(value: Any) -> Any:
        if isinstance(value, str):
            try:
                return make(value)
            except (ValueError, ArithmeticError):
                pass
        raise Mismatch(kind.__name__, value)

    return load


def enum_loader(kind: Any) -> Convert:
    # Members are found by their JSON: the value of a member may be a tuple or a date.
    members = {orjson.dumps(member, default=str): member for member in kind}

    def load(value: Any) -> Any:
        try:
            return members[orjson.dumps(value)]
        except KeyError:
            raise Mismatch(f"a {kind.__name__}", value) from None

    return load


def list_shape(hint: Any, args: tuple[Any, ...]) -> Shape:
    item = shape_of(args[0]) if args else ANY
    if item.load is None and item.dump is None:
        return Shape(name_of(hint), kinds=(list, tuple))

    def load(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise Mismatch(name_of(hint), value)
        return items(item.load, value)

    dump = None if item.dump is None else lambda value: items(item.dump, value)
    return Shape(name_of(hint), load, dump, (list, tuple))


def set_shape(hint: Any, origin: type, args: tuple[Any, ...]) -> Shape:
    item = shape_of(args[0]) if args else ANY
    make: Convert = frozenset if origin is frozenset else set

    def load(value: Any) -> Any:
        if not isinstance(value, list):
            raise Mismatch(name_of(hint), value)
        try:
            return make(items(item.load, value))
        except TypeError:  # a list among the items
            raise Mismatch(name_of(hint), value) from None

    def dump(value: Any) -> Any:
        return items(item.dump, value) if isinstance(value, (set, frozenset)) else value

    return Shape(name_of(hint), load, dump, (set, frozenset))


def tuple_shape(hint: Any, args: tuple[Any, ...]) -> Shape:
    is_even = len(args) == 2 and args[1] is Ellipsis or not args
    shapes = [shape_of(arg) for arg in (args[:1] if is_even else args)] or [ANY]

    def convert(value: Iterable[Any], converts: list[Convert | None]) -> list[Any]:
        if is_even:
            return items(converts[0], value)
        return [items_at(index, converts[index], each) for index, each in enumerate(value)]

    def load(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not is_even and len(value) != len(shapes):
            raise Mismatch(name_of(hint), value)
        return tuple(convert(value, [shape.load for shape in shapes]))

    def dump(value: Any) -> Any:
        return convert(value, [shape.dump for shape in shapes])

    return Shape(name_of(hint), load, dump if any(shape.dump for shape in shapes) else None, (tuple,))


def named_tuple_shape(kind: Any) -> Shape:
    shapes = [shape_of(get_type_hints(kind).get(name, Any)) for name in kind._fields]

    def load(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(shapes):
            raise Mismatch(kind.__name__, value)
        pairs = zip(kind._fields, shapes, value, strict=True)
        return kind(*[items_at(name, shape.load, each) for name, shape, each in pairs])

    def dump(value: Any) -> Any:
        pairs = zip(shapes, value, strict=True)
        return [each if shape.dump is None else shape.dump(each) for shape, each in pairs]

    return Shape(kind.__name__, load, dump if any(shape.dump for shape in shapes) else None, (kind,))


def dict_shape(hint: Any, args: tuple[Any, ...]) -> Shape:
    key, value = (key_shape(args[0]), shape_of(args[1])) if args else (ANY, ANY)
    loads, dumps = (key.load, value.load), (key.dump, value.dump)

    def convert(held: Any, converts: tuple[Convert | None, Convert | None]) -> Any:
        if not isinstance(held, Mapping):
            raise Mismatch(name_of(hint), held)
        convert_key, convert_value = converts
        return {
            name if convert_key is None else convert_key(name): items_at(str(name), convert_value, each)
            for name, each in held.items()
        }

    return Shape(
        name_of(hint),
        (lambda held: convert(held, loads)) if any(loads) else None,
        (lambda held: convert(held, dumps)) if any(dumps) else None,
        (dict,),
    )


def key_shape(hint: Any) -> Shape:
    """The shape of a dict's keys, which become str: the names of a JSON object."""
    if hint is int:
        return Shape("int", load=int_of_name, dump=str)
    shape = shape_of(hint)
    if hint in TEXTS:
        return Shape(
            shape.name, shape.load, lambda key: key.isoformat() if hasattr(key, "isoformat") else str(key)
        )
    if isinstance(hint, type) and issubclass(hint, Enum):
        return Shape(shape.name, shape.load, lambda key: key.value)
    return ANY


def int_of_name(name: Any) -> int:
    try:
        return int(name)
    except ValueError:
        raise Mismatch("an int as a name", name) from None


def typed_dict_shape(kind: Any) -> Shape:
    members = {name: shape_of(hint) for name, hint in get_type_hints(kind).items()}
    return object_shape(kind.__name__, members, make=lambda found: found, kinds=(dict,))


def object_shape(name: str, members: Mapping[str, Shape], *, make: Convert, kinds: tuple[type, ...]) -> Shape:
    """The shape of a dict whose members have types of their own; other members stay as they are."""
    loads = {member: shape.load for member, shape in members.items() if shape.load is not None}
    dumps = {member: shape.dump for member, shape in members.items() if shape.dump is not None}

    def convert(held: Any, converts: Mapping[str, Convert]) -> Any:
        if not isinstance(held, Mapping):
            raise Mismatch(name, held)
        return {member: items_at(member, converts.get(member), each) for member, each in held.items()}

    return Shape(
        name,
        (lambda held: make(convert(held, loads))) if loads else None,
        (lambda held: convert(held, dumps)) if dumps else None,
        kinds,
    )


def model_shape(kind: Any) -> Shape:
    """The shape of a pydantic model, which dumps and validates itself. Fields are written by their alias, which it reads too."""

    def load(value: Any) -> Any:
        try:
            return kind.model_validate_json(orjson.dumps(value))
        except ValueError as error:
            raise Mismatch(f"a {kind.__name__}: {error}", value) from error

    def dump(value: Any) -> Any:
        return value.model_dump(mode="json", by_alias=True) if isinstance(value, kind) else value

    return Shape(kind.__name__, load, dump, (kind,))


def dataclass_shape(hint: Any, kind: Any, args: tuple[Any, ...]) -> Shape:
    """The shape of a dataclass. Its fields are read when a value first comes, as the class may contain itself."""
    types = dict(zip(getattr(kind, "__parameters__", ()), args, strict=False))

    @cache
    def members() -> dict[str, Shape]:
        hints = get_type_hints(kind)
        return {each.name: shape_of(filled_in(hints[each.name], types)) for each in fields(kind)}

    given = [each for each in fields(kind) if each.init]
    required = [each.name for each in given if each.default is MISSING and each.default_factory is MISSING]

    def load(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Mismatch(f"a {kind.__name__}", value)
        if missing := [name for name in required if name not in value]:
            raise Mismatch(f"a {kind.__name__}, which has a {missing[0]!r}", value)
        shapes = members()
        arguments = {
            each.name: items_at(each.name, shapes[each.name].load, value[each.name])
            for each in given
            if each.name in value
        }
        try:
            return kind(**arguments)
        except (TypeError, ValueError) as error:
            raise Mismatch(f"a {kind.__name__}, which says: {error}", value) from error

    def dump(value: Any) -> Any:
        if not isinstance(value, kind):
            return value
        return {name: items_at(name, shape.dump, getattr(value, name)) for name, shape in members().items()}

    return Shape(name_of(hint), load, dump, (kind,))


def filled_in(hint: Any, types: Mapping[Any, Any]) -> Any:
    """The type of a field with the type variables of its class replaced by their values in `types`."""
    if isinstance(hint, TypeVar):
        return types.get(hint, Any)
    parameters = getattr(hint, "__parameters__", ())
    return hint[tuple(types.get(each, Any) for each in parameters)] if types and parameters else hint


def union_shape(hint: Any, args: tuple[Any, ...]) -> Shape:
    """The shape of a union: the first member that fits counts; plain JSON types are tried last, as any value would fit them."""
    shapes = [shape_of(arg) for arg in args if arg is not NoneType]
    typed = [shape for shape in shapes if shape.load is not None]
    dumpers = [shape for shape in shapes if shape.dump is not None]
    allows_none, allows_plain = NoneType in args, len(typed) < len(shapes)

    def load(value: Any) -> Any:
        if value is None and allows_none:
            return None
        problem: Mismatch | None = None
        for shape in typed:
            assert shape.load is not None
            try:
                return shape.load(value)
            except Mismatch as error:
                problem = error
        if allows_plain:
            return value
        if problem is not None and len(typed) == 1:
            raise problem
        raise Mismatch(name_of(hint), value)

    def dump(value: Any) -> Any:
        for shape in dumpers:
            if isinstance(value, shape.kinds) and shape.dump is not None:
                return shape.dump(value)
        return value

    return Shape(name_of(hint), load if typed else None, dump if dumpers else None)
