"""The OpenAPI 3.1 description of the operations, made of their types."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from taskflow.web.catalogue.fields import fields_of
from taskflow.web.catalogue.operation import Operation
from taskflow.web.catalogue.problems import Kind
from taskflow.web.catalogue.schema import schema_of

PATH_FIELD = re.compile(r"\{(\w+)\}")
PROBLEM = {
    "type": "object",
    "description": "Why a request was refused or failed (RFC 9457).",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "enum": [kind.code for kind in Kind]},
        "hint": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail", "code", "hint"],
}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string", "maxLength": 256},
    "description": "A request with the key of an earlier one, within an hour, makes nothing twice.",
}  # fmt: skip


def describe(operations: Iterable[Operation], *, prefix: str, version: str) -> dict[str, Any]:
    """The document; `prefix` is the address under which the paths stand."""
    named: dict[str, Any] = {"Problem": PROBLEM}
    paths: dict[str, Any] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method.lower()] = describe_operation(each, named)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "taskflow",
            "version": version,
            "description": "Look at a deployment, and act on it.",
        },
        "servers": [{"url": prefix}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {"schemas": named, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def describe_operation(operation: Operation, named: dict[str, Any]) -> dict[str, Any]:
    schema_of(operation.request, named)
    request = named.pop(operation.request.__name__)
    in_path = PATH_FIELD.findall(operation.path)
    body = {name: value for name, value in request["properties"].items() if name not in in_path}
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"{operation.description}\n\nScope: {operation.scope}.",
        "tags": [operation.name.partition(".")[0]],
        "parameters": [parameter(name, "path", request) for name in in_path],
        "responses": responses(operation, named),
    }
    if not operation.is_write:
        described["parameters"] += [parameter(name, "query", request) for name in body]
        return described
    described["parameters"].append(IDEMPOTENCY_KEY)
    if body:
        required = [name for name in request["required"] if name in body]
        schema = {"type": "object", "properties": body, "required": required, "additionalProperties": False}
        content = {"application/json": {"schema": schema}}
        described["requestBody"] = {"required": bool(required), "content": content}
    return described


def parameter(name: str, place: str, request: dict[str, Any]) -> dict[str, Any]:
    schema = dict(request["properties"][name])
    text = schema.pop("description")
    found = {
        "name": name,
        "in": place,
        "required": name in request["required"],
        "schema": schema,
        "description": text,
    }
    return {**found, "style": "form", "explode": False} if schema.get("type") == "array" else found


def responses(operation: Operation, named: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema_of(operation.answer, named)}}
    found: dict[str, Any] = {"200": {"description": "What was asked for.", "content": content}}
    by_status: dict[int, list[str]] = {}
    for kind in operation.errors:
        by_status.setdefault(kind.value.status, []).append(kind.code)
    for status, codes in sorted(by_status.items()):
        text = f"{HTTPStatus(status).phrase}: {', '.join(codes)}"
        problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        found[str(status)] = {"description": text, "content": problem}
    return found


def names_of_fields(operation: Operation) -> list[str]:
    """The names of the fields that an operation takes."""
    return list(fields_of(operation.request))
