"""Refuses expressions that never give a key, judging by the parse tree alone. Rule S7.

The values of fields are not known before there is an event. `event.data.a || event.data.b` is refused too, although it gives a bool
when both fields are bools: its author wants the first field that is there.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from taskflow.expressions.names import problem
from taskflow.expressions.tree import arguments, literal_token, unwrap

if TYPE_CHECKING:
    from lark import Token

    from taskflow.expressions.tree import Node

UNKNOWN = ""
RESULTS: MappingProxyType[str, str] = MappingProxyType(
    dict.fromkeys(
        ("all", "bool", "contains", "endsWith", "exists", "exists_one", "has", "matches", "startsWith"),
        "bool",
    )
    | dict.fromkeys(("double", "int", "size", "uint"), "number")
    | {
        "filter": "list",
        "map": "list",
        "string": "text",
        "timestamp": "time",
        "duration": "time",
        "bytes": "bytes",
        "type": "type",
    }
)
"""Function or macro -> the kind of its value."""
LITERALS: MappingProxyType[str, str] = MappingProxyType(
    {
        "NULL_LIT": "null",
        "BOOL_LIT": "bool",
        "STRING_LIT": "text",
        "MLSTRING_LIT": "text",
        "BYTES_LIT": "bytes",
    }
)
NO_KEYS: MappingProxyType[str, str] = MappingProxyType(
    {
        "null": "null",
        "time": "a time, which is no JSON; write string(...)",
        "bytes": "bytes, which are no JSON",
        "type": "a type",
    }
)
SUMS = frozenset(("bytes", "list", "number", "text", "time"))


def check_key(source: str) -> None:
    """Raise Problem for an expression whose value is never a key. It must be one that can be compiled."""
    from taskflow.expressions.reference import parse

    tree = parse(source)
    kind = kind_of(tree)
    if kind in NO_KEYS:
        raise problem(tree, f'its value is {NO_KEYS[kind]}; each event would have the key ""')


def kind_of(node: Node | Token) -> str:
    """The kind of a node's value; UNKNOWN if it depends on the event. Raises Problem for a `||`, `&&` or sum that gives no key."""
    node = unwrap(node)
    if isinstance(node, str):
        return UNKNOWN
    token = literal_token(node)
    if token is not None:
        return LITERALS.get(token.type, "number")
    if node.data in ("conditionalor", "conditionaland"):
        return kind_of_logic(node)
    if node.data == "expr":
        _, one, other = node.children
        kinds = {kind_of(one), kind_of(other)}
        return kinds.pop() if len(kinds) == 1 else UNKNOWN
    if node.data in ("addition", "multiplication"):
        return kind_of_arithmetic(node)
    if node.data == "member_dot_arg":
        return RESULTS.get(str(node.children[1]), UNKNOWN)
    if node.data == "ident_arg":
        return kind_of_call(node)
    if node.data == "unary":
        sign = node.children[0]
        return "bool" if not isinstance(sign, str) and sign.data == "unary_not" else UNKNOWN
    if node.data == "list_lit":
        for item in arguments(node.children):
            kind_of(item)
    return {"relation": "bool", "list_lit": "list", "map_lit": "map"}.get(node.data, UNKNOWN)


def kind_of_call(node: Node) -> str:
    name, given = str(node.children[0]), arguments(node.children[1:])
    if name in ("string", "dyn") and given:
        kind = kind_of(given[0])
        return kind if name == "dyn" else "text"
    return RESULTS.get(name, UNKNOWN)


def kind_of_logic(node: Node) -> str:
    """The kind of the value of `||` or `&&`: bool. Raises Problem unless both sides are certainly bools."""
    if all(kind_of(child) == "bool" for child in node.children):
        return "bool"
    sign = "||" if node.data == "conditionalor" else "&&"
    raise problem(
        node,
        f"{sign} gives true or false, or an error, and never the first value that is there; write "
        "has(event.data.a) ? event.data.a : event.data.b, or event.data.a == true for a bool",
    )


def kind_of_arithmetic(node: Node) -> str:
    sign, right = node.children
    assert not isinstance(sign, str)
    kinds = {kind for kind in (kind_of(sign.children[0]), kind_of(right)) if kind}
    if sign.data != "addition_add":
        return "number" if "time" not in kinds else UNKNOWN
    if len(kinds) > 1 or not kinds <= SUMS:
        raise problem(
            node,
            f"there is no sum of {' and '.join(sorted(kinds))}; write string(...) around what is no text",
        )
    return kinds.pop() if kinds else UNKNOWN
