"""Checks the names in a parsed CEL expression, and finds which fields of an event it reads. Rule S2.5."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from taskflow.expressions.functions import finder
from taskflow.expressions.macros import MACROS
from taskflow.expressions.problem import Problem
from taskflow.expressions.scope import MAX_NESTED
from taskflow.expressions.tree import arguments, only_name, string_of

if TYPE_CHECKING:
    from lark import Token

    from taskflow.expressions.tree import Node

EVENT_FIELDS = ("data", "headers", "id", "name", "ts", "user", "v")
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


class NameCheck:
    """Walks a parse tree of cel-python's grammar; afterwards `fields` says which fields of each variable are read.

    `fields[variable]` is the set of its members that the expression reads, or None if it reads the variable as a whole.
    `functions` says how many values each function takes, the one before the dot included; None where that varies.
    """

    def __init__(self, variables: Iterable[str], functions: Mapping[str, int | None]) -> None:
        self.fields: dict[str, set[str] | None] = {}
        self._variables = frozenset(variables)
        self._functions = functions

    def check(self, node: Node, bound: tuple[str, ...] = ()) -> None:
        """Raise Problem for an unknown name in `node`; `bound` are the variables of the macros around it."""
        kind = node.data
        if kind in ("ident", "dot_ident"):
            self._check_variable(node.children[0], bound)
        elif kind in ("member_dot", "member_index"):
            self._check_member(node, bound)
        elif kind == "member_dot_arg" and str(node.children[1]) in MACROS:
            self._check_macro(node, bound)
        elif kind == "member_object":
            raise problem(node, "messages like Type{...} aren't supported; use a map like {'key': value}")
        else:
            if kind == "member_dot_arg":
                owner, name, *rest = node.children
                self._check_function(name, [owner, *arguments(rest)])
            elif kind in ("ident_arg", "dot_ident_arg"):
                self._check_function(node.children[0], arguments(node.children[1:]))
            self._check_all(node.children, bound)

    def _check_all(self, children: Iterable[Node | Token], bound: tuple[str, ...]) -> None:
        for child in children:
            if not isinstance(child, str):
                self.check(child, bound)

    def _check_variable(self, name: Node | Token, bound: tuple[str, ...]) -> None:
        if name in bound or name in TYPE_NAMES:
            return
        if name not in self._variables:
            raise problem(name, f"unknown variable {str(name)!r}{hint(str(name), self._variables)}")
        self.fields[str(name)] = None

    def _check_member(self, node: Node, bound: tuple[str, ...]) -> None:
        owner, key = node.children
        variable = only_name(owner)
        member = str(key) if node.data == "member_dot" else string_of(key)
        if variable is None or variable in bound or variable not in self._variables or member is None:
            self._check_all(node.children, bound)
            return
        if member not in EVENT_FIELDS:
            raise problem(key, f"an event has no field {member!r}{hint(member, EVENT_FIELDS)}")
        read = self.fields.setdefault(variable, set())
        if read is not None:
            read.add(member)

    def _check_macro(self, node: Node, bound: tuple[str, ...]) -> None:
        name = str(node.children[1])
        given = arguments(node.children[2:])
        variable = only_name(given[0]) if len(given) == 2 else None
        if variable is None:
            raise problem(
                node.children[1], f"{name}() takes a variable and an expression, as in {name}(item, item > 0)"
            )
        if len(bound) == MAX_NESTED:
            raise problem(node.children[1], f"more than {MAX_NESTED} macros stand inside one another")
        self._check_all([node.children[0]], bound)
        self._check_all([given[1]], (*bound, variable))

    def _check_function(self, name: Node | Token, given: Sequence[Node | Token]) -> None:
        if name not in self._functions:
            raise problem(
                name, f"unknown function {str(name)!r}{hint(str(name), {*self._functions, *MACROS})}"
            )
        count = self._functions[str(name)]
        if count is not None and count != len(given):
            raise problem(
                name, f"{name} takes {count} {'value' if count == 1 else 'values'}, got {len(given)}"
            )
        if name == "matches" and (pattern := string_of(given[1])) is not None:
            try:
                finder(pattern)
            except ValueError as error:
                raise problem(name, str(error)) from error


def problem(place: Node | Token, reason: str) -> Problem:
    where = place if isinstance(place, str) else place.meta
    return Problem(reason, where.line or 1, where.column or 1)


def hint(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(known))}"
