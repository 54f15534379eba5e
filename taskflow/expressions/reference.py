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
from typing import Any

import celpy
from celpy.celparser import CELParseError
from celpy.celtypes import BoolType, DoubleType, IntType, ListType, MapType, StringType, UintType
from celpy.evaluation import CELEvalError, base_functions
from lark import Token, Tree, UnexpectedToken

from taskflow.expressions.cel import Problem
from taskflow.expressions.names import NameCheck
from taskflow.types import JsonObject

# celpy recurses through four Python frames for each node, and Python's limit is then 2,500.
MAX_DEPTH = 400
MIN_INT, MAX_INT = -(1 << 63), (1 << 63) - 1
FUNCTION_NAMES = frozenset(name for name in base_functions if name.isidentifier() and name[0] != "_") | {
    "has",
    "dyn",
}


@dataclass(frozen=True, slots=True)
class Program:
    """A parsed expression, and the fields of each variable that it reads (None: all of them)."""

    runner: celpy.Runner
    fields: Mapping[str, frozenset[str] | None]

    def run(self, variables: Mapping[str, JsonObject]) -> Any:
        """The value in plain Python types. Raises whatever celpy raises."""
        context = {name: to_cel(pick(variables[name], fields)) for name, fields in self.fields.items()}
        return to_plain(self.runner.evaluate(context))


def compile_program(source: str, variables: tuple[str, ...]) -> Program:
    """Parse and check `source`. Raises Problem."""
    try:
        tree = parse(source)
        if tree_depth(tree) > MAX_DEPTH:
            raise Problem("it is nested too deeply", 1, 1)
        names = NameCheck(variables, FUNCTION_NAMES)
        names.check(tree)
    except RecursionError as error:
        raise Problem("it is nested too deeply", 1, 1) from error
    fields = {name: None if read is None else frozenset(read) for name, read in names.fields.items()}
    return Program(environment().program(tree, functions=FUNCTIONS), fields)


@lru_cache(maxsize=1)
def environment() -> celpy.Environment:
    limit = sys.getrecursionlimit()
    made = celpy.Environment()  # sets the limit to 2,500, which may be less than what the user has set
    sys.setrecursionlimit(max(limit, sys.getrecursionlimit()))
    return made


def parse(source: str) -> Tree[Token]:
    try:
        return environment().compile(source)
    except CELParseError as error:
        line, column = max(error.line or 1, 1), max(error.column or 1, 1)
        cause = error.__context__
        if isinstance(cause, UnexpectedToken) and cause.token.type == "$END":
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


def pick(event: JsonObject, fields: frozenset[str] | None) -> JsonObject:
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


def is_same(left: Any, right: Any) -> bool:
    """Equality of CEL on plain values: numbers by value, other types never equal one another."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return left == right
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(is_same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(is_same(item, right[key]) for key, item in left.items())
    return bool(left == right)


def relation(decide: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    """A relation of CEL from one over plain values. Errors are values in celpy, and pass through."""

    def relate(left: Any, right: Any) -> Any:
        for operand in (left, right):
            if isinstance(operand, CELEvalError):
                return operand
        return BoolType(decide(to_plain(left), to_plain(right)))

    return relate


def ordering(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    def decide(left: Any, right: Any) -> bool:
        if is_number(left) and is_number(right):
            return compare(left, right)
        if type(left) is type(right) and isinstance(left, (bool, str, bytes, datetime, timedelta)):
            return compare(left, right)
        raise TypeError(f"no order between {type(left).__name__} and {type(right).__name__}")

    return relation(decide)


def is_in(item: Any, container: Any) -> bool:
    if not isinstance(container, (list, dict)):
        raise TypeError(f"'in' takes a list or a map, got {type(container).__name__}")
    return any(is_same(item, member) for member in container)


def arithmetic(calculate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """An operator that takes an integer and a double as two doubles."""

    def compute(left: Any, right: Any) -> Any:
        is_mixed = isinstance(left, float) is not isinstance(right, float)
        if is_mixed and is_number(left) and is_number(right):
            left, right = DoubleType(float(left)), DoubleType(float(right))
        return calculate(left, right)

    return compute


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, (bool, BoolType))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "_==_": relation(is_same),
    "_!=_": relation(lambda left, right: not is_same(left, right)),
    "_<_": ordering(operator.lt),
    "_<=_": ordering(operator.le),
    "_>_": ordering(operator.gt),
    "_>=_": ordering(operator.ge),
    "_in_": relation(is_in),
    "_+_": arithmetic(operator.add),
    "_-_": arithmetic(operator.sub),
    "_*_": arithmetic(operator.mul),
    "_/_": arithmetic(operator.truediv),
}
