"""Shows the type of an event on a page, and as a row of a list. For `taskflow events schema`."""

from __future__ import annotations

from collections.abc import Iterator

from taskflow.runs.schemas import TypeOfEvent
from taskflow.terminal.screen import Cell, Line, aligned, plain
from taskflow.values.text import short
from taskflow.values.typescript import type_text

INDENT = "  "
TYPES_HEADER = ("event", "v", "type", "functions")
SHOWN_CHARS = 200  # of a field's type or description; --json has all of it


def type_page(shown: TypeOfEvent) -> Iterator[Line]:
    """The lines of the page: each field with its type, and the functions that have it."""
    yield [("● ", "accent"), (shown.name, "bold"), ("  ·  ", "dim"), (f"version {shown.v}", "")]
    yield []
    required = shown.schema.get("required", ())
    rows = [
        [
            plain(name, "bold"),
            plain(short(type_text(field), SHOWN_CHARS)),
            plain("" if name in required else "optional", "dim"),
            plain(short(field.get("description", ""), SHOWN_CHARS), "dim"),
        ]
        for name, field in shown.schema.get("properties", {}).items()
    ]
    yield from aligned(rows or [[plain("no fields", "dim")]], indent=INDENT)
    for name, definition in shown.schema.get("$defs", {}).items():
        yield []
        yield [(f"{INDENT}{name}  ", "bold"), (short(type_text(definition), SHOWN_CHARS), "")]
    yield []
    yield [(f"{INDENT}of ", "dim"), (", ".join(shown.functions), "")]
    yield []


def type_row(shown: TypeOfEvent) -> list[Cell]:
    """A type as a row of the list."""
    return [
        plain(shown.name, "bold"), plain(shown.v), plain(str(shown.schema.get("title", ""))),
        plain(", ".join(shown.functions), "dim"),
    ]  # fmt: skip
