"""Whether data fits a JSON Schema that workers registered for an event, told without the code of its model. Rule S11.2.

It knows what pydantic writes into schemas. Like pydantic it takes a text for a number or a bool where that can be read, so nothing
is refused here that a worker would take; a keyword that it does not know is no reason to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from taskflow.types import JsonObject

MAX_PROBLEMS = 10
MAX_DEPTH = 64
BOOLS = ("true", "false", "1", "0", "yes", "no", "on", "off", "t", "f", "y", "n")


def problems_of(data: JsonObject, schema: Mapping[str, Any]) -> list[str]:
    """What does not fit, each with its path: "data.items.0.sku: a text is expected, got 7"; at most ten."""
    found: list[str] = []
    for problem in Fit(schema).check(data, schema, "data", 0):
        found.append(problem)
        if len(found) == MAX_PROBLEMS:
            break
    return found


class Fit:
    """Checks values against parts of one schema."""

    def __init__(self, whole: Mapping[str, Any]) -> None:
        self.whole = whole

    def check(self, value: Any, schema: Any, path: str, depth: int) -> Iterator[str]:
        """What of the value does not fit this part of the schema."""
        schema = self.resolved(schema)
        if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
            return
        if "const" in schema and value != schema["const"]:
            yield f"{path}: {schema['const']!r} is expected, got {value!r:.60}"
        elif "enum" in schema and value not in schema["enum"]:
            yield f"{path}: one of {', '.join(map(repr, schema['enum'][:10]))} is expected, got {value!r:.60}"
        for word in ("anyOf", "oneOf"):
            if isinstance(schema.get(word), list):
                yield from self.check_choice(value, schema[word], path, depth)
        for each in schema.get("allOf", ()):
            yield from self.check(value, each, path, depth + 1)
        kind = schema.get("type")
        if isinstance(kind, str) and kind in KINDS:
            expected, is_kind = KINDS[kind]
            if not is_kind(value):
                yield f"{path}: {expected} is expected, got {value!r:.60}"
                return
        if isinstance(value, dict):
            yield from self.check_object(value, schema, path, depth)
        elif isinstance(value, list):
            yield from self.check_list(value, schema, path, depth)
        else:
            yield from check_limits(value, schema, path)

    def resolved(self, schema: Any) -> Any:
        """The schema that a reference names. Pydantic's are of the form #/$defs/Name."""
        for _ in range(MAX_DEPTH):
            reference = schema.get("$ref") if isinstance(schema, Mapping) else None
            if not isinstance(reference, str):
                return schema
            schema = self.whole.get("$defs", {}).get(reference.removeprefix("#/$defs/"))
        return None

    def check_choice(self, value: Any, choices: Sequence[Any], path: str, depth: int) -> Iterator[str]:
        """The value must fit one of the choices. If it fits none, the problems of the one that it fits best are told."""
        told = [list(self.check(value, each, path, depth + 1)) for each in choices]
        if told and all(told):
            yield from min(told, key=len)

    def check_object(
        self, value: JsonObject, schema: Mapping[str, Any], path: str, depth: int
    ) -> Iterator[str]:
        properties, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{path}.{name}: is missing"
        for name, each in value.items():
            if name in properties:
                yield from self.check(each, properties[name], f"{path}.{name}", depth + 1)
            elif more is False:
                yield f"{path}.{name}: is not expected"
            elif isinstance(more, Mapping):
                yield from self.check(each, more, f"{path}.{name}", depth + 1)

    def check_list(self, value: list[Any], schema: Mapping[str, Any], path: str, depth: int) -> Iterator[str]:
        if len(value) < schema.get("minItems", 0):
            yield f"{path}: at least {schema['minItems']} items are expected, got {len(value)}"
        if len(value) > schema.get("maxItems", len(value)):
            yield f"{path}: at most {schema['maxItems']} items are expected, got {len(value)}"
        first = schema.get("prefixItems", ())
        for place, each in enumerate(value):
            part = first[place] if place < len(first) else schema.get("items")
            yield from self.check(each, part, f"{path}.{place}", depth + 1)


def check_limits(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Limits of texts and numbers."""
    if isinstance(value, str) and schema.get("type") == "string":
        if len(value) < schema.get("minLength", 0):
            yield f"{path}: at least {schema['minLength']} characters are expected, got {len(value)}"
        if len(value) > schema.get("maxLength", len(value)):
            yield f"{path}: at most {schema['maxLength']} characters are expected, got {len(value)}"
    number = number_in(value) if schema.get("type") in ("integer", "number") else None
    if number is None:
        return
    for word, is_fine, told in LIMITS:
        if word in schema and not is_fine(number, schema[word]):
            yield f"{path}: a number {told} {schema[word]} is expected, got {value!r:.60}"


def number_in(value: Any) -> int | float | None:
    """The number that pydantic reads in a value, or None."""
    if isinstance(value, (int, float)):
        return value
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def is_integer(value: Any) -> bool:
    number = number_in(value)
    return number is not None and (isinstance(number, int) or number.is_integer())


def is_bool(value: Any) -> bool:
    return isinstance(value, bool) or value in (0, 1) or (isinstance(value, str) and value.lower() in BOOLS)


KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "object": ("an object", lambda value: isinstance(value, dict)),
    "array": ("a list", lambda value: isinstance(value, list)),
    "string": ("a text", lambda value: isinstance(value, str)),
    "integer": ("a whole number", is_integer),
    "number": ("a number", lambda value: number_in(value) is not None),
    "boolean": ("true or false", is_bool),
    "null": ("null", lambda value: value is None),
}
LIMITS: tuple[tuple[str, Callable[[float, float], bool], str], ...] = (
    ("minimum", lambda number, limit: number >= limit, "of at least"),
    ("maximum", lambda number, limit: number <= limit, "of at most"),
    ("exclusiveMinimum", lambda number, limit: number > limit, "above"),
    ("exclusiveMaximum", lambda number, limit: number < limit, "below"),
)
