"""Reads the parse tree of cel-python's grammar: its names, paths and literals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from lark import Token, Tree

    Node: TypeAlias = Tree[Token]

MIN_INT, MAX_INT = -(1 << 63), (1 << 63) - 1

# Nodes that mean the same as their only child.
WRAPPERS = frozenset(
    (
        "expr",
        "conditionalor",
        "conditionaland",
        "relation",
        "addition",
        "multiplication",
        "unary",
        "member",
        "primary",
        "paren_expr",
    )
)
# Nodes that cel-python's evaluator accepts only as the child of a "primary".
PRIMARIES = frozenset(("literal", "ident", "dot_ident", "ident_arg", "dot_ident_arg", "list_lit", "map_lit"))


def unwrap(node: Node | Token) -> Node | Token:
    """The node without the parentheses and the unused levels of precedence around it."""
    while not isinstance(node, str) and node.data in WRAPPERS and len(node.children) == 1:
        node = node.children[0]
    return node


def only_name(node: Node | Token) -> str | None:
    """The name, if `node` is nothing but a name; else None."""
    node = unwrap(node)
    if isinstance(node, str) or node.data not in ("ident", "dot_ident"):
        return None
    return str(node.children[0])


def simplify(tree: Node) -> Node:
    """Remove the nodes that mean the same as their only child; the tree is changed in place.

    It then has less than half the depth, so cel-python's recursion fits Python's limit and takes a fifth less time. A "primary"
    stays around names, calls and literals, since cel-python's evaluator expects it.
    """
    for node in [*tree.iter_subtrees(), root := type(tree)("root", [tree])]:
        node.children = [collapsed(child) for child in node.children]
    return root.children[0]  # type: ignore[return-value]  # the child is a tree


def collapsed(node: Node | Token) -> Node | Token:
    while not isinstance(node, str) and node.data in WRAPPERS and len(node.children) == 1:
        child = node.children[0]
        if node.data == "primary" and (isinstance(child, str) or child.data in PRIMARIES):
            break
        node = child
    return node


def arguments(children: Sequence[Node | Token]) -> list[Node | Token]:
    """The arguments of a call: the members of the list of expressions that is its only child, if it has one."""
    if not children:
        return []
    (only,) = children
    return [] if isinstance(only, str) else list(only.children)


def literal(token: Token) -> None | bool | int | float | str:
    """The value of a literal. Raises ValueError for one that is no JSON (bytes, 1u), or an int of more than 64 bits."""
    from celpy.evaluation import celstr

    text = str(token)
    if token.type == "NULL_LIT":
        return None
    if token.type == "BOOL_LIT":
        return text == "true"
    if token.type == "FLOAT_LIT":
        return float(text)
    if token.type in ("STRING_LIT", "MLSTRING_LIT"):
        return str(celstr(token))
    if token.type == "INT_LIT":
        digits = text.lstrip("-")
        value = int(digits, 16 if digits[:2] in ("0x", "0X") else 10)
        value = -value if text[0] == "-" else value
        if MIN_INT <= value <= MAX_INT:
            return value
        raise ValueError(f"{text} has more than 64 bits")
    raise ValueError(f"{text} has no JSON form")


def names_of(node: Node | Token) -> list[str] | None:
    """["event", "data", "x"] for `event.data.x` and `event["data"]["x"]`; None if `node` is no such path."""
    names: list[str] = []
    node = unwrap(node)
    while not isinstance(node, str) and node.data in ("member_dot", "member_index"):
        owner, key = node.children
        if node.data == "member_dot":
            names.append(str(key))
        else:
            value = string_of(key)
            if value is None:
                return None
            names.append(value)
        node = unwrap(owner)
    root = only_name(node)
    return None if root is None else [root, *reversed(names)]


def string_of(node: Node | Token) -> str | None:
    """The text of a string literal; None for any other node."""
    token = literal_token(node)
    return str(literal(token)) if token is not None and token.type in ("STRING_LIT", "MLSTRING_LIT") else None


def literal_token(node: Node | Token) -> Token | None:
    """The token of a literal; None for any other node."""
    node = unwrap(node)
    if isinstance(node, str) or node.data != "literal":
        return None
    token = node.children[0]
    return token if isinstance(token, str) else None
