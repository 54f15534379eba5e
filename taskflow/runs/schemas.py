"""The types of events that functions have, with their JSON Schemas: of code, or as workers registered them. Rule S11.2."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from taskflow.errors import EventNotFound
from taskflow.function import FunctionSpec
from taskflow.types import JsonObject
from taskflow.values.keywords import did_you_mean
from taskflow.values.record import record


@record
class TypeOfEvent:
    """The type of the events of one name in one version, and the ids of the functions that have it."""

    name: str
    v: str
    schema: JsonObject
    functions: tuple[str, ...]

    def to_json(self) -> JsonObject:
        """The type as a JSON object, as `taskflow events schema --json` shows it."""
        return {"name": self.name, "v": self.v, "functions": list(self.functions), "schema": self.schema}


def types_of_events(specs: Iterable[FunctionSpec]) -> list[TypeOfEvent]:
    """The types that the functions have, by name. Several of one name differ by version or schema: apps may disagree."""
    found: dict[tuple[str, str, bytes], tuple[JsonObject, list[str]]] = {}
    for spec in specs:
        for each in spec.schemas:
            key = (each.name, each.v, orjson.dumps(each.schema, option=orjson.OPT_SORT_KEYS))
            _, functions = found.setdefault(key, (dict(each.schema), []))
            functions.append(spec.id)
    return [
        TypeOfEvent(name, v, schema, tuple(functions))
        for (name, v, _), (schema, functions) in sorted(found.items(), key=lambda each: each[0])
    ]


def types_named(types: Sequence[TypeOfEvent], name: str) -> list[TypeOfEvent]:
    """The types of this name. Raises EventNotFound."""
    if named := [each for each in types if each.name == name]:
        return named
    known = {each.name for each in types}
    raise EventNotFound(
        f"no function has a type for the event {name!r}"
        + (did_you_mean(name, known) if known else ": no function has types for its events")
    )
