"""Finds the equality in a condition by which a wait can be indexed. Rule S3.3.

A conjunction is true only if each of its parts is true. So waits can be looked up by a part like `async.data.id ==
event.data.id`, and the rest of the condition is evaluated only for the waits that the look-up finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from taskflow.expressions.tree import literal, literal_token, names_of, unwrap
from taskflow.types import Json
from taskflow.values.record import record

if TYPE_CHECKING:
    from lark import Token

    from taskflow.expressions.tree import Node

# Above this, an int and a double may be equal and yet written differently, so an index could miss one.
MAX_EXACT = 1 << 53


@record
class Equality:
    """A part of a condition: the value at `path` of `async` equals another.

    `path` and `other_path` are dotted, without their variable ("data.order.id"). The other value is that at
    `other_path` of `event`, or `literal` if `other_path` is None. `residue` is CEL source of all other parts; None if
    there are none. The condition is true exactly when the equality and the residue are both true; a missing field
    equals nothing.
    """

    path: str
    other_path: str | None
    literal: Json
    residue: str | None


@lru_cache(maxsize=1024)
def split_equality(source: str) -> Equality | None:
    """The equality in `source`, a condition over `event` and `async` that compile_expression() accepts; None if it has none.

    An equality of two fields is preferred to one with a literal, as fewer events meet it.

        split_equality("async.data.id == event.data.id && async.data.total > 5")
        # Equality(path="data.id", other_path="data.id", literal=None, residue="async.data.total > 5")
    """
    from taskflow.expressions.reference import parse

    parts = list(conjuncts(parse(source)))
    found = [(place, one) for place, part in enumerate(parts) if (one := equality(part)) is not None]
    if not found:
        return None
    place, (path, other_path, value) = min(found, key=lambda one: one[1][1] is None)
    rest = [source[part.meta.start_pos : part.meta.end_pos] for part in parts[:place] + parts[place + 1 :]]
    return Equality(path, other_path, value, " && ".join(rest) or None)


def conjuncts(tree: Node) -> Iterator[Node]:
    """The parts of a conjunction, from left to right. A part in parentheses keeps them, unless it is a conjunction itself."""
    pending = [tree]
    while pending:
        node = pending.pop()
        inner = unwrap(node)
        if not isinstance(inner, str) and inner.data == "conditionaland":
            pending.extend(reversed([child for child in inner.children if not isinstance(child, str)]))
        else:
            yield node


def equality(part: Node) -> tuple[str, str | None, Json] | None:
    """The path in `async`, and the path in `event` or the literal that it equals; None if no index can be used for `part`."""
    node = unwrap(part)
    if isinstance(node, str) or node.data != "relation":
        return None
    comparison, right = node.children
    if isinstance(comparison, str) or comparison.data != "relation_eq":
        return None
    sides: tuple[Node | Token, Node | Token] = (comparison.children[0], right)
    for one, other in (sides, sides[::-1]):
        path = path_in("async", one)
        if path is None:
            continue
        other_path = path_in("event", other)
        if other_path is not None:
            return path, other_path, None
        values = literals(other)
        if values:
            return path, None, values[0]
    return None


def path_in(variable: str, node: Node | Token) -> str | None:
    """ "data.x" for `variable.data.x`; None for another kind of node, and for keys that a dotted path can't contain."""
    names = names_of(node)
    if names is None or names[0] != variable or len(names) < 2:
        return None
    return ".".join(names[1:]) if all(name.isidentifier() for name in names[1:]) else None


def literals(node: Node | Token) -> list[Json]:
    """The value of a literal that an index can look up, in a list; [] for any other node.

    Null can't be looked up: a missing field equals null, and an index has no entry for a missing field.
    """
    token = literal_token(node)
    if token is None:
        return []
    try:
        value = literal(token)
    except ValueError:
        return []
    if value is None or (isinstance(value, (int, float)) and abs(value) > MAX_EXACT):
        return []
    return [value]
