"""Runs CEL with cel-python, the reference that everything faster has to agree with.

Importing this module imports celpy. `taskflow.expressions.cel` does so when the first expression is compiled.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import celpy
from celpy.celparser import CELParser
from celpy.celtypes import BoolType, DoubleType, IntType, ListType, MapType, StringType, UintType
from celpy.evaluation import CELEvalError, base_functions
from celpy.evaluation import Evaluator as PlainEvaluator
from lark import Lark, Token, Tree, UnexpectedInput, UnexpectedToken

from taskflow.expressions import operators
from taskflow.expressions.functions import FUNCTIONS as COMPILED
from taskflow.expressions.names import NameCheck
from taskflow.expressions.problem import Problem
from taskflow.expressions.tree import MAX_INT, MIN_INT, simplify
from taskflow.types import EventFields

# Of a simplified tree. celpy needs four Python frames for each level, and Python has 1,000 in all, the caller's included.
MAX_DEPTH = 120
KNOWN_FUNCTIONS: MappingProxyType[str, int | None] = MappingProxyType(
    {name: None for name in base_functions if name.isidentifier() and name[0] != "_"}
    | {name: count for name, (count, _) in COMPILED.items()}
    | {"has": 1, "dyn": 1}
)
"""How many values each takes; None where that varies."""


class Evaluator(PlainEvaluator):
    """Makes an error of CEL, which `||` may absorb, of all that a function raises; celpy lets some kinds pass."""

    def sub_evaluator(self, ast: Tree[Token]) -> Evaluator:
        return Evaluator(ast, activation=self.activation)

    def function_eval(self, name_token: Token, exprlist: Any = None) -> Any:
        try:
            return super().function_eval(name_token, exprlist)
        except Exception as error:
            return CELEvalError(str(error), type(error), error.args, token=name_token)

    def method_eval(self, object: Any, method_ident: Token, exprlist: Any = None) -> Any:
        try:
            return super().method_eval(object, method_ident, exprlist)
        except Exception as error:
            return CELEvalError(str(error), type(error), error.args, token=method_ident)


class Runner(celpy.InterpretedRunner):
    """Runs a tree in our evaluator."""

    def evaluate(self, context: Any) -> Any:
        return Evaluator(self.ast, activation=self.new_activation()).evaluate(context)


@dataclass(frozen=True, slots=True)
class Program:
    """A parsed expression, and the fields of each variable that it reads (None: all of them)."""

    tree: Tree[Token]
    runner: Runner
    fields: Mapping[str, frozenset[str] | None]

    def run(self, event: EventFields, async_event: EventFields) -> Any:
        """The value in plain Python types. Raises whatever celpy raises."""
        variables = {"event": event, "async": async_event}
        context = {name: to_cel(pick(variables[name], fields)) for name, fields in self.fields.items()}
        return to_plain(self.runner.evaluate(context))


def compile_program(source: str, variables: tuple[str, ...]) -> Program:
    """Parse and check `source`. Raises Problem."""
    tree = simplify(parse(source))
    if tree_depth(tree) > MAX_DEPTH:
        raise Problem(f"it is nested too deeply, in more than {MAX_DEPTH} levels", 1, 1)
    names = NameCheck(variables, KNOWN_FUNCTIONS)
    names.check(tree)
    fields = {name: None if read is None else frozenset(read) for name, read in names.fields.items()}
    return Program(tree, Runner(environment()[0], tree, dict(FUNCTIONS)), fields)


class PlacedParser(CELParser):
    """cel-python's parser, whose `true` and `false` forget where they stand."""

    @staticmethod
    def ambiguous_literals(token: Token) -> Token:
        return Token.new_borrow_pos("BOOL_LIT", str(token), token) if token in ("true", "false") else token


@lru_cache(maxsize=1)
def environment() -> tuple[celpy.Environment, Lark]:
    """What programs run in, and their parser: of our own, as celpy shares one with all of the process."""
    limit = sys.getrecursionlimit()
    shared, CELParser.CEL_PARSER = CELParser.CEL_PARSER, None
    try:
        PlacedParser()
        parser: Lark = vars(CELParser)["CEL_PARSER"]
        made = celpy.Environment()  # sets the limit to 2,500, for good
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
    """How many nodes lie on the longest path; iterative, as what it guards against is recursion."""
    deepest, pending = 0, [(tree, 1)]
    while pending:
        node, depth = pending.pop()
        deepest = max(deepest, depth)
        pending.extend((child, depth + 1) for child in node.children if isinstance(child, Tree))
    return deepest


def pick(event: EventFields, fields: frozenset[str] | None) -> EventFields:
    """Only what is read, for converting an event costs more than most expressions."""
    return event if fields is None else {field: event[field] for field in fields if field in event}


def to_cel(value: Any) -> Any:
    """A JSON value as celpy's types."""
    if value is None:
        return None
    if isinstance(value, bool):
        return BoolType(value)
    if isinstance(value, str):
        return StringType(value)
    if isinstance(value, int):
        if MIN_INT <= value <= MAX_INT:
            return IntType(value)
        return UintType(value)
    if isinstance(value, float):
        return DoubleType(value)
    if isinstance(value, dict):
        return MapType({StringType(key): to_cel(item) for key, item in value.items()})
    return ListType([to_cel(item) for item in value])


def to_plain(value: Any) -> Any:
    """A value of celpy as None, bool, int, float, str, bytes, datetime, timedelta, list or dict."""
    if isinstance(value, BoolType):
        return bool(value)
    if value is None or isinstance(value, (bool, type)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, datetime):
        return datetime.combine(value.date(), value.timetz()).astimezone(UTC)
    if isinstance(value, timedelta):
        return timedelta(days=value.days, seconds=value.seconds, microseconds=value.microseconds)
    if isinstance(value, Mapping):
        return {to_plain(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    raise TypeError(f"a value of type {type(value).__name__} is no result")


def relation(decide: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    """A relation of CEL from one over plain values. Errors are values in celpy, and pass through."""

    def relate(left: Any, right: Any) -> Any:
        for operand in (left, right):
            if isinstance(operand, CELEvalError):
                return operand
        try:
            return BoolType(decide(to_plain(left), to_plain(right)))
        except Exception as error:  # celpy makes an error of CEL of a TypeError only
            raise TypeError(str(error)) from error

    return relate


PLAIN_RESULTS: MappingProxyType[type, Callable[[Any], Any]] = MappingProxyType(
    {float: DoubleType, str: StringType, list: ListType}
)
"""What celpy's own operators give in plain types, which its functions then don't know."""


def arithmetic(calculate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """An operator that takes an integer and a double as two doubles, no bools, and gives a value of celpy's types."""

    def compute(left: Any, right: Any) -> Any:
        for operand in (left, right):
            if isinstance(operand, CELEvalError):
                return operand
            if isinstance(operand, BoolType):
                raise TypeError("there is no arithmetic with bools")
        if isinstance(left, float) or isinstance(right, float):
            if not (is_number(left) and is_number(right)):
                raise TypeError(f"no arithmetic with {type(left).__name__} and {type(right).__name__}")
            left, right = DoubleType(float(left)), DoubleType(float(right))
        value = calculate(left, right)
        kind = PLAIN_RESULTS.get(type(value))
        return value if kind is None else kind(value)

    return compute


def remainder(left: Any, right: Any) -> Any:
    """`%` is for integers: Python's own would format text, too."""
    for operand in (left, right):
        if isinstance(operand, CELEvalError):
            return operand
        if not isinstance(operand, (IntType, UintType)):
            raise TypeError(f"'%' takes two integers, got {type(operand).__name__}")
    return operator.mod(left, right)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, (bool, BoolType))


FUNCTIONS: MappingProxyType[str, Callable[..., Any]] = MappingProxyType(
    {
        "_==_": relation(operators.is_same),
        "_!=_": relation(operators.is_different),
        "_<_": relation(operators.ordering(operator.lt)),
        "_<=_": relation(operators.ordering(operator.le)),
        "_>_": relation(operators.ordering(operator.gt)),
        "_>=_": relation(operators.ordering(operator.ge)),
        "_in_": relation(operators.is_in),
        "_+_": arithmetic(operator.add),
        "_-_": arithmetic(operator.sub),
        "_*_": arithmetic(operator.mul),
        "_/_": arithmetic(operator.truediv),
        "_%_": remainder,
    }
)
