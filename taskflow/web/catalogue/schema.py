"""JSON Schema of the types of requests and answers, as OpenAPI 3.1 has it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

SIMPLE: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    dict: {"type": "object"},
    Any: {},
}


def schema_of(hint: Any, named: dict[str, Any]) -> dict[str, Any]:
    """The schema of a type. Objects with a name of their own are put into `named`, and referred to."""
    origin, args = get_origin(hint), get_args(hint)
    if hint in SIMPLE:
        return dict(SIMPLE[hint])
    if origin in (Union, UnionType):
        return union_schema([schema_of(arg, named) for arg in args])
    if origin is Literal:
        return {"type": "string", "enum": list(args)}
    if origin in (list, tuple):
        return {"type": "array", "items": schema_of(args[0], named)}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(args[1], named)}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"type": "string", "enum": [member.value for member in hint]}
    assert is_typeddict(hint) or is_dataclass(hint), hint
    return object_schema(hint, named)


def union_schema(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """One schema with several types where that says it all, which readers find easier than anyOf."""
    if {} in parts:
        return {}
    if all(part.keys() == {"type"} for part in parts):
        return {"type": [part["type"] for part in parts]}
    return {"anyOf": parts}


def object_schema(kind: Any, named: dict[str, Any]) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{kind.__name__}"}
    if kind.__name__ in named:
        return reference
    named[kind.__name__] = {}  # known from here on, as it may contain itself
    hints = get_type_hints(kind, include_extras=True)
    if is_dataclass(kind):
        required = [
            each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING
        ]
        properties = {
            each.name: field_schema(hints[each.name], each.metadata, named) for each in fields(kind)
        }
    else:
        required = sorted(kind.__required_keys__, key=list(hints).index)
        properties = {
            name: schema_of(get_args(hint)[0] if get_origin(hint) is NotRequired else hint, named)
            for name, hint in hints.items()
        }
    named[kind.__name__] = {
        "type": "object", "description": inspect.getdoc(kind) or "", "properties": properties, "required": required,
        "additionalProperties": False,
    }  # fmt: skip
    return reference


def field_schema(hint: Any, metadata: Mapping[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field of a request, with its description and its limits."""
    limits = {
        name: metadata[name] for name in ("minimum", "maximum", "maxLength") if metadata.get(name) is not None
    }
    return {**schema_of(hint, named), **limits, "description": metadata["help"]}
