"""TypeScript types of JSON Schemas, as pydantic writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

Schema = Mapping[str, Any]

IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
REF = "#/$defs/"


class Named(NamedTuple):
    """A schema, and the name of what it describes."""

    name: str
    schema: Schema


def type_text(schema: object, names: Mapping[str, str] | None = None) -> str:
    """The type in one line: "string", "Item[]", "{ a: number }". `names` are the types of the schema's `$defs`, by their names."""
    if not isinstance(schema, Mapping):
        return "never" if schema is False else "unknown"
    if isinstance(ref := schema.get("$ref"), str):
        name = ref.removeprefix(REF)
        return (names or {}).get(name, type_name(name))
    if "const" in schema:
        return literal(schema["const"])
    if "enum" in schema:
        return union(literal(each) for each in schema["enum"])
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return union(type_text(each, names) for each in schema[word])
    if "allOf" in schema:
        return " & ".join(grouped(type_text(each, names)) for each in schema["allOf"]) or "unknown"
    kind = schema.get("type")
    if isinstance(kind, list):
        return union(type_text({**schema, "type": each}, names) for each in kind)
    if kind == "array":
        return array_text(schema, names)
    if kind == "object":
        return object_text(schema, names)
    return PLAIN.get(str(kind), "unknown")


def array_text(schema: Schema, names: Mapping[str, str] | None) -> str:
    if "prefixItems" in schema:
        return f"[{', '.join(type_text(each, names) for each in schema['prefixItems'])}]"
    return f"{grouped(type_text(schema.get('items'), names))}[]"


def object_text(schema: Schema, names: Mapping[str, str] | None) -> str:
    if schema.get("properties"):
        return f"{{ {'; '.join(members(schema, names))} }}"
    values = schema.get("additionalProperties")
    return f"Record<string, {type_text(values, names) if isinstance(values, Mapping) else 'unknown'}>"


def members(schema: Schema, names: Mapping[str, str] | None) -> list[str]:
    """The members of an object: "order_id: string", "at?: string | null"."""
    required = schema.get("required", ())
    return [
        f"{name if IDENTIFIER.fullmatch(name) else literal(name)}{'' if name in required else '?'}: {type_text(each, names)}"
        for name, each in schema.get("properties", {}).items()
    ]


def union(texts: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(texts)) or "never"


def grouped(text: str) -> str:
    return f"({text})" if " | " in text or " & " in text else text


def literal(value: object) -> str:
    return orjson.dumps(value).decode()


def type_name(text: str) -> str:
    """A name that TypeScript takes: "Page[Item]" is PageItem."""
    name = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9_$]+", text))
    return name if IDENTIFIER.fullmatch(name) else f"T{name}"


def declarations(events: Iterable[Named], *, table: str) -> str:
    """A module with a type for each schema and each of its `$defs`, and with `table`, an interface from the names to the types.

    Types of one name that differ are numbered. Of several schemas of one name the table has the union.
    """
    written: dict[str, Schema] = {}
    lines: list[str] = []
    rows: dict[str, list[str]] = {}
    for event in events:
        definitions = event.schema.get("$defs", {})
        # The name of a definition depends on what the definitions in it are called: those are compared as a whole.
        names = {
            name: free_name(name, {**each, "$defs": definitions}, written)
            for name, each in definitions.items()
        }
        for name, each in definitions.items():
            declare(names[name], {**each, "$defs": definitions}, names, written, lines)
        own = free_name(str(event.schema.get("title") or event.name), event.schema, written)
        declare(own, event.schema, names, written, lines)
        rows.setdefault(event.name, []).append(own)
    lines.append(f"export interface {table} {{")
    lines += [f"  {literal(name)}: {union(types)};" for name, types in rows.items()]
    return "\n".join([*lines, "}", ""])


def free_name(wanted: str, schema: Schema, written: Mapping[str, Schema]) -> str:
    """The name of a type: that which is wanted, unless a type that differs has it."""
    name, number = type_name(wanted), 1
    while name in written and written[name] != schema:
        number += 1
        name = f"{type_name(wanted)}{number}"
    return name


def declare(
    name: str, schema: Schema, names: Mapping[str, str], written: dict[str, Schema], lines: list[str]
) -> None:
    if name in written:
        return
    written[name] = schema
    lines += comment(schema.get("description"), indent="")
    if schema.get("type") == "object" and schema.get("properties"):
        lines.append(f"export interface {name} {{")
        for member, each in zip(members(schema, names), schema["properties"].values(), strict=True):
            lines.extend(comment(each.get("description"), indent="  "))
            lines.append(f"  {member};")
        lines.append("}")
    else:
        lines.append(f"export type {name} = {type_text(schema, names)};")
    lines.append("")


def comment(text: object, *, indent: str) -> list[str]:
    if not isinstance(text, str) or not text.strip():
        return []
    told = text.strip().replace("*/", "* /").splitlines()
    if len(told) == 1:
        return [f"{indent}/** {told[0]} */"]
    return [f"{indent}/**", *(f"{indent} * {line.strip()}".rstrip() for line in told), f"{indent} */"]
