"""Checks the names in a parsed CEL expression, and finds which fields of an event it reads. Rule S2.5."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeAlias

from taskflow.expressions.cel import Problem

if TYPE_CHECKING:
    from lark import Token, Tree

    Node: TypeAlias = Tree[Token]

EVENT_FIELDS = ("data", "id", "name", "ts", "user", "v")
TYPE_NAMES = frozenset(
    (
        "bool",
        "bytes",
        "double",
        "duration",
        "int",
        "list",
        "map",
        "null_type",
        "string",
        "timestamp",
        "type",
        "uint",
    )
)
# These bind their first argument, a name, as a variable for the second.
MACROS = frozenset(("all", "exists", "exists_one", "filter", "map"))
# Nodes that add nothing to their only child.
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


class NameCheck:
    """Walks a parse tree of cel-python's grammar; afterwards `fields` says what each variable is read for.

    `fields[variable]` is the set of its members that the expression reads, or None if it reads it as a whole.
    """

    def __init__(self, variables: Iterable[str], functions: Iterable[str]) -> None:
        self.fields: dict[str, set[str] | None] = {}
        self._variables = frozenset(variables)
        self._functions = frozenset(functions)

    def check(self, node: Node, bound: frozenset[str] = frozenset()) -> None:
        """Raise Problem for a name that means nothing; `bound` are the variables of the macros around it."""
        kind = node.data
        if kind in ("ident", "dot_ident"):
            self._check_variable(node.children[0], bound)
        elif kind == "member_dot":
            self._check_member(node, bound)
        elif kind == "member_dot_arg" and str(node.children[1]) in MACROS:
            self._check_macro(node, bound)
        elif kind == "member_object":
            raise problem(node, "messages like Type{...} aren't supported; use a map like {'key': value}")
        else:
            if kind == "member_dot_arg":
                self._check_function(node.children[1])
            elif kind in ("ident_arg", "dot_ident_arg"):
                self._check_function(node.children[0])
            self._check_all(node.children, bound)

    def _check_all(self, children: Iterable[Node | Token], bound: frozenset[str]) -> None:
        for child in children:
            if not isinstance(child, str):
                self.check(child, bound)

    def _check_variable(self, name: Node | Token, bound: frozenset[str]) -> None:
        if name in bound or name in TYPE_NAMES:
            return
        if name not in self._variables:
            raise problem(name, f"unknown variable {str(name)!r}{hint(str(name), self._variables)}")
        self.fields[str(name)] = None

    def _check_member(self, node: Node, bound: frozenset[str]) -> None:
        owner, member = node.children
        variable = only_name(owner)
        if variable is None or variable in bound or variable not in self._variables:
            self._check_all([owner], bound)
            return
        if member not in EVENT_FIELDS:
            raise problem(member, f"an event has no field {str(member)!r}{hint(str(member), EVENT_FIELDS)}")
        read = self.fields.setdefault(variable, set())
        if read is not None:
            read.add(str(member))

    def _check_macro(self, node: Node, bound: frozenset[str]) -> None:
        name = str(node.children[1])
        arguments = (
            [] if len(node.children) < 3 or isinstance(node.children[2], str) else node.children[2].children
        )
        variable = only_name(arguments[0]) if len(arguments) == 2 else None
        if variable is None:
            raise problem(
                node.children[1], f"{name}() takes a variable and an expression, as in {name}(item, item > 0)"
            )
        self._check_all([node.children[0]], bound)
        self._check_all([arguments[1]], bound | {variable})

    def _check_function(self, name: Node | Token) -> None:
        if name not in self._functions:
            raise problem(name, f"unknown function {str(name)!r}{hint(str(name), self._functions | MACROS)}")


def only_name(node: Node | Token) -> str | None:
    """The name that `node` consists of, if it is nothing but a name."""
    while not isinstance(node, str) and node.data in WRAPPERS and len(node.children) == 1:
        node = node.children[0]
    if isinstance(node, str) or node.data not in ("ident", "dot_ident"):
        return None
    return str(node.children[0])


def problem(place: Node | Token, reason: str) -> Problem:
    where = place if isinstance(place, str) else place.meta
    return Problem(reason, where.line or 1, where.column or 1)


def hint(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(known))}"
