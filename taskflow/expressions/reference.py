"""Runs CEL with cel-python, the reference with which the compiled closures have to agree.

Importing this module imports celpy. `taskflow.expressions.cel` does so when the first expression is compiled.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import celpy
from celpy.celparser import CELParser
from celpy.evaluation import base_functions
from lark import Lark, Token, Tree, UnexpectedInput, UnexpectedToken

from taskflow.expressions.budget import Budget
from taskflow.expressions.functions import FUNCTIONS as COMPILED
from taskflow.expressions.interpreter import Runner, spending
from taskflow.expressions.names import NameCheck
from taskflow.expressions.problem import Problem
from taskflow.expressions.standard import STANDARD, to_cel, to_plain
from taskflow.expressions.tree import simplify
from taskflow.types import EventFields
from taskflow.values.record import record

# The greatest depth of a simplified tree. celpy needs four Python frames for each level, and Python has 1,000 in all, those of the
# caller included.
MAX_DEPTH = 120
KNOWN_FUNCTIONS: MappingProxyType[str, int | None] = MappingProxyType(
    {name: None for name in base_functions if name.isidentifier() and name[0] != "_"}
    | {name: count for name, (count, _) in COMPILED.items()}
    | {"has": 1, "dyn": 1}
)
"""Function -> how many values it takes; None where that varies."""


@record
class Program:
    """A parsed expression, and for each variable the fields that it reads (None: all of them)."""

    tree: Tree[Token]
    runner: Runner
    fields: Mapping[str, frozenset[str] | None]

    def run(self, event: EventFields, async_event: EventFields) -> Any:
        """The value in plain Python types. Raises whatever celpy raises, and Exhausted if it takes too much work."""
        variables = {"event": event, "async": async_event}
        context = {name: to_cel(pick(variables[name], fields)) for name, fields in self.fields.items()}
        with spending(Budget()):
            return to_plain(self.runner.evaluate(context))


def compile_program(source: str, variables: tuple[str, ...]) -> Program:
    """Parse and check `source`. Raises Problem."""
    tree = simplify(parse(source))
    if tree_depth(tree) > MAX_DEPTH:
        raise Problem(f"it is nested too deeply, in more than {MAX_DEPTH} levels", 1, 1)
    names = NameCheck(variables, KNOWN_FUNCTIONS)
    names.check(tree)
    fields = {name: None if read is None else frozenset(read) for name, read in names.fields.items()}
    return Program(tree, Runner(environment()[0], tree, dict(STANDARD)), fields)


class PlacedParser(CELParser):
    """cel-python's parser, except that its `true` and `false` keep their place in the text, which cel-python drops."""

    @staticmethod
    def ambiguous_literals(token: Token) -> Token:
        return Token.new_borrow_pos("BOOL_LIT", str(token), token) if token in ("true", "false") else token


@lru_cache(maxsize=1)
def environment() -> tuple[celpy.Environment, Lark]:
    """The environment of all programs, and a parser of our own: celpy's is shared by the whole process."""
    limit = sys.getrecursionlimit()
    shared, CELParser.CEL_PARSER = CELParser.CEL_PARSER, None
    try:
        PlacedParser()
        parser: Lark = vars(CELParser)["CEL_PARSER"]
        made = celpy.Environment()  # sets Python's recursion limit to 2,500, for good
    finally:
        sys.setrecursionlimit(limit)
        CELParser.CEL_PARSER = shared
    return made, parser


def parse(source: str) -> Tree[Token]:
    """The parse tree. Raises Problem."""
    try:
        return environment()[1].parse(source)
    except UnexpectedInput as error:
        line, column = max(error.line, 1), max(error.column, 1)
        if isinstance(error, UnexpectedToken) and error.token.type == "$END":
            raise Problem("it ends too early", line, column) from error
        rest = "".join(source.splitlines()[line - 1 : line])[column - 1 :]
        raise Problem(f"unexpected {rest[:20]!r}", line, column) from error


def tree_depth(tree: Tree[Token]) -> int:
    """The number of nodes on the longest path. Not recursive, since it guards against too deep a recursion."""
    deepest, pending = 0, [(tree, 1)]
    while pending:
        node, depth = pending.pop()
        deepest = max(deepest, depth)
        pending.extend((child, depth + 1) for child in node.children if isinstance(child, Tree))
    return deepest


def pick(event: EventFields, fields: frozenset[str] | None) -> EventFields:
    """The fields of the event that are read: converting a whole event costs more than most expressions."""
    return event if fields is None else {field: event[field] for field in fields if field in event}
