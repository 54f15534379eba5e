"""Frozen dataclasses as JSON objects, and back, by the types of their fields.

A field `period` beside a derived field `period_ms` is a duration: it is written as `period_ms`, and read as a timedelta. Other
derived fields (`init=False`) are not written, nor fields that `in_code_only` makes, nor a None that is the default. A reader
ignores entries that it does not know, and takes the default for missing ones, so that versions that differ by an option understand
each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, field, fields, is_dataclass
from datetime import timedelta
from functools import cache, partial
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from taskflow.values.record import record

T = TypeVar("T")
Read: TypeAlias = Callable[[Any], Any]


CODE = {"in": "code"}


def in_code_only(default: T) -> T:
    """A field that no manifest has, since its value (a class, say) means something only where the code is."""
    value: T = field(default=default, metadata=CODE)
    return value


class NoManifest(ValueError):
    """A manifest can't be read; the message says why, in words that continue a sentence after "but"."""


@record
class Entry:
    """A field of a manifest: `source` is the attribute that is written, `read` turns the stored value into the `argument`."""

    name: str
    argument: str
    source: str
    read: Read
    is_required: bool
    leaves_out_none: bool


def entries_of(kind: Any) -> tuple[Entry, ...]:
    """The entries of a dataclass's manifest."""
    return find_entries(kind)


@cache
def find_entries(kind: Any) -> tuple[Entry, ...]:
    hints = get_type_hints(kind)
    names = {each.name for each in fields(kind)}
    entries = []
    for each in fields(kind):
        if not each.init or each.metadata == CODE:
            continue
        is_duration = f"{each.name}_ms" in names
        name = f"{each.name}_ms" if is_duration else each.name
        read = read_duration if is_duration else reader_of(hints[each.name])
        is_required = each.default is MISSING and each.default_factory is MISSING
        entries.append(Entry(name, each.name, name, read, is_required, each.default is None))
    return tuple(entries)


def to_manifest(value: Any) -> Any:
    """The JSON form of a dataclass, of a list, tuple or mapping of dataclasses, or of a plain JSON value."""
    if isinstance(value, (list, tuple)):
        return [to_manifest(item) for item in value]
    if isinstance(value, Mapping):
        return {name: to_manifest(item) for name, item in value.items()}
    if not is_dataclass(value) or isinstance(value, type):
        return value
    written = {}
    for entry in entries_of(type(value)):
        held = getattr(value, entry.source)
        if held is not None or not entry.leaves_out_none:
            written[entry.name] = to_manifest(held)
    return written


def from_manifest(kind: type[T], manifest: Any) -> T:
    """The dataclass that `to_manifest` wrote. Raises NoManifest, or the dataclass's own error for a wrong value."""
    if not isinstance(manifest, Mapping):
        raise NoManifest(f"it is a {type(manifest).__name__} where an object is expected")
    arguments = {}
    for entry in entries_of(kind):
        if entry.name in manifest:
            try:
                arguments[entry.argument] = entry.read(manifest[entry.name])
            except NoManifest as problem:
                raise NoManifest(f"in {entry.name!r} {problem}") from problem
        elif entry.is_required:
            raise NoManifest(f"it has no {entry.name!r}")
    return kind(**arguments)


def reader_of(hint: Any) -> Read:
    """The function that reads a value of this type from JSON."""
    if hint in (str, bool, int, float):
        return read_plain(hint)
    if get_origin(hint) is Literal:
        return read_choice(get_args(hint))
    if get_origin(hint) is tuple:
        return read_tuple(reader_of(get_args(hint)[0]))
    if get_origin(hint) in (Union, UnionType):
        return read_union(get_args(hint))
    if hint is Any:
        return read_json
    if get_origin(hint) in (Mapping, dict):
        return read_mapping(reader_of(get_args(hint)[1]))
    if isinstance(hint, type) and is_dataclass(hint):
        return partial(from_manifest, hint)
    raise TypeError(f"a manifest can't hold a {hint!r}")


def read_json(value: Any) -> Any:
    """Whatever JSON holds."""
    return value


def read_plain(kind: type) -> Read:
    kinds = (float, int) if kind is float else (kind,)

    def read(value: Any) -> Any:
        if type(value) not in kinds:
            raise NoManifest(f"it has a {type(value).__name__} where a {kind.__name__} is expected")
        return value

    return read


def read_choice(choices: tuple[Any, ...]) -> Read:
    def read(value: Any) -> Any:
        if value not in choices:
            raise NoManifest(f"it has {value!r:.80} where one of {choices} is expected")
        return value

    return read


def read_tuple(read_item: Read) -> Read:
    def read(value: Any) -> Any:
        if not isinstance(value, list):
            raise NoManifest(f"it has a {type(value).__name__} where a list is expected")
        return tuple(read_item(item) for item in value)

    return read


def read_mapping(read_item: Read) -> Read:
    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise NoManifest(f"it has a {type(value).__name__} where an object is expected")
        return {name: read_item(item) for name, item in value.items()}

    return read


def read_union(hints: tuple[Any, ...]) -> Read:
    """Read a union: the first member all of whose required fields are there, as dataclasses differ by their required fields."""
    allows_none = NoneType in hints
    members = [hint for hint in hints if hint is not NoneType]
    readers = [(required_of(hint), reader_of(hint)) for hint in members]

    def read(value: Any) -> Any:
        if value is None and allows_none:
            return None
        for required, read_member in readers[:-1]:
            if isinstance(value, Mapping) and required <= value.keys():
                return read_member(value)
        return readers[-1][1](value)

    return read


def required_of(hint: Any) -> set[str]:
    return {entry.name for entry in entries_of(hint) if entry.is_required} if is_dataclass(hint) else set()


def read_duration(value: Any) -> timedelta | None:
    if value is None:
        return None
    if type(value) is not int:
        raise NoManifest(f"it has a {type(value).__name__} where a number of ms is expected")
    try:
        return timedelta(milliseconds=value)
    except OverflowError as error:
        raise NoManifest(f"it has {value} ms, which is too long") from error
