"""The fields of requests: how they are declared, and how JSON and text become a request. All that is wrong is said at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import orjson

from taskflow.values.keywords import did_you_mean
from taskflow.web.catalogue.problems import Kind, Problem

Q = TypeVar("Q")

MAX_TEXT_CHARS = 4_096
TRUE, FALSE = ("true", "1", "yes", ""), ("false", "0", "no")


def wanted(
    help: str,
    *,
    default: Any = MISSING,
    minimum: int | None = None,
    maximum: int | None = None,
    max_chars: int | None = None,
) -> Any:
    """Declare a field of a request: what it is for, and between which numbers or how long it may be."""
    metadata = {"help": help, "minimum": minimum, "maximum": maximum, "maxLength": max_chars}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A field of a request. `kind` is its type without None, `item` the type of the items of a list."""

    name: str
    kind: Any
    item: Any
    is_optional: bool
    is_required: bool
    help: str
    minimum: int | None
    maximum: int | None
    max_chars: int

    @property
    def is_list(self) -> bool:
        return self.kind is tuple

    @property
    def expected(self) -> str:
        """In words, what the value must be."""
        if isinstance(self.kind, type) and issubclass(self.kind, Enum):
            return f"one of {', '.join(str(member.value) for member in self.kind)}"
        if self.kind is int and self.maximum is not None:
            return f"a whole number from {self.minimum:,} to {self.maximum:,}"
        if self.is_list and isinstance(self.item, type) and issubclass(self.item, Enum):
            return f"a list of {', '.join(str(member.value) for member in self.item)}"
        words = {
            int: "a whole number",
            bool: "true or false",
            dict: "a JSON object",
            tuple: "a list of texts",
        }
        return words.get(self.kind, f"a text of at most {self.max_chars:,} characters")

    def check(self, value: Any) -> Any:
        """The value of the request for a JSON value. Raises ValueError, which says what is wrong."""
        if value is None and self.is_optional:
            return None
        if self.kind is Any:
            return value
        if self.is_list and isinstance(value, list):
            return tuple(self.check_one(self.item, each) for each in value)
        return self.check_one(self.kind, value)

    def check_one(self, kind: Any, value: Any) -> Any:
        if isinstance(kind, type) and issubclass(kind, Enum):
            if isinstance(value, str) and value in {member.value for member in kind}:
                return kind(value)
        elif type(value) is kind and self.is_in_limits(value):
            return value
        raise ValueError(f"{self.name} must be {self.expected}, got {value!r:.80}")

    def is_in_limits(self, value: Any) -> bool:
        if isinstance(value, str):
            return len(value) <= self.max_chars
        if type(value) is not int:
            return True
        return (self.minimum is None or value >= self.minimum) and (
            self.maximum is None or value <= self.maximum
        )

    def parse(self, texts: list[str]) -> Any:
        """The JSON value that texts stand for, as those of a query or of the command line. Raises ValueError."""
        if self.is_list:
            return [part for text in texts for part in text.split(",") if part]
        if len(texts) > 1:
            raise ValueError(f"{self.name} is given {len(texts)} times, but has one value")
        (text,) = texts
        if self.kind is int:
            return int(text) if text.lstrip("-").isdecimal() and text.isascii() and len(text) < 20 else text
        if self.kind is bool:
            return True if text.lower() in TRUE else False if text.lower() in FALSE else text
        if self.kind in (dict, Any):
            try:
                return orjson.loads(text)
            except orjson.JSONDecodeError as error:
                raise ValueError(f"{self.name} must be JSON, got {text[:60]!r} ({error})") from None
        return text


def fields_of(kind: Any) -> dict[str, Wanted]:
    """The fields of a request, by name."""
    return found_fields(kind)


@cache
def found_fields(kind: Any) -> dict[str, Wanted]:
    hints = get_type_hints(kind)
    assert is_dataclass(kind)
    return {each.name: wanted_of(each, hints[each.name]) for each in fields(kind)}


def wanted_of(declared: Field[Any], hint: Any) -> Wanted:
    is_optional = False
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (arg for arg in get_args(hint) if arg is not NoneType)
        is_optional = True
    origin, args = get_origin(hint) or hint, get_args(hint)
    told = declared.metadata
    return Wanted(
        declared.name, origin, args[0] if origin is tuple else None, is_optional,
        declared.default is MISSING and declared.default_factory is MISSING,
        told["help"], told["minimum"], told["maximum"], told["maxLength"] or MAX_TEXT_CHARS,
    )  # fmt: skip


def read_request(kind: type[Q], given: Mapping[str, Any]) -> Q:
    """The request of JSON values. Raises Problem, which names all that is wrong."""
    known, values, errors = fields_of(kind), {}, []
    for name in given:
        if name not in known:
            told = did_you_mean(name, known) if known else "; it takes none"
            errors.append((name, f"there is no field {name!r}{told}"))
    for name, field_ in known.items():
        if name not in given:
            if field_.is_required:
                errors.append((name, f"{name} is missing: {field_.help}"))
            continue
        try:
            values[name] = field_.check(given[name])
        except ValueError as error:
            errors.append((name, str(error)))
    if errors:
        named = [{"field": name, "message": message} for name, message in errors]
        raise Problem(Kind.INVALID_FIELD, "; ".join(message for _, message in errors), more={"errors": named})
    return kind(**values)


def parse_texts(kind: type, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The JSON values of names and texts, as in a query. Unknown names are left to `read_request`. Raises Problem."""
    known, texts = fields_of(kind), dict[str, list[str]]()
    for name, text in pairs:
        texts.setdefault(name, []).append(text)
    try:
        return {name: known[name].parse(given) if name in known else given for name, given in texts.items()}
    except ValueError as error:
        raise Problem(Kind.INVALID_FIELD, str(error)) from None
