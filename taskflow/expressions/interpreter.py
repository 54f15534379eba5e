"""cel-python's interpreter within a budget, with macros that follow the standard.

cel-python's own `exists` and `all` take time and memory that double with each element that is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import celpy
from celpy.celtypes import BoolType, ListType, MapType
from celpy.evaluation import CELEvalError
from celpy.evaluation import Evaluator as PlainEvaluator
from lark import Token, Tree

from taskflow.expressions.budget import Budget, Exhausted
from taskflow.expressions.macros import MACROS
from taskflow.expressions.standard import BUDGET, STANDARD
from taskflow.expressions.tree import arguments, literal_token, names_of, only_name

# The interpreter's visit of a node takes about as long as this many steps of compiled closures.
STEPS_A_VISIT = 200


ABOUT_MISSING = MappingProxyType({"relation_eq": "_==_", "relation_ne": "_!=_", "relation_in": "_in_"})
"""The relations that accept a missing field: cel-python's name -> the function's name."""


@contextmanager
def spending(budget: Budget) -> Iterator[None]:
    """Evaluate within `budget`."""
    token = BUDGET.set(budget)
    try:
        yield
    finally:
        BUDGET.reset(token)


class Evaluator(PlainEvaluator):
    """Turns all that a function raises into CEL errors, which `||` may absorb; celpy leaves out some kinds."""

    def sub_evaluator(self, ast: Tree[Token]) -> Evaluator:
        return Evaluator(ast, activation=self.activation)

    def _visit_tree(self, tree: Tree[Token]) -> Any:
        # This replaces lark's own and does not call it, or each level of an expression would take one Python frame more.
        BUDGET.get().charge(STEPS_A_VISIT)
        return getattr(self, tree.data)(tree)

    def function_eval(self, name_token: Token, exprlist: Any = None) -> Any:
        try:
            return super().function_eval(name_token, exprlist)
        except Exhausted:
            raise
        except Exception as error:
            return failed(error, name_token)

    def method_eval(self, object: Any, method_ident: Token, exprlist: Any = None) -> Any:
        try:
            return super().method_eval(object, method_ident, exprlist)
        except Exhausted:
            raise
        except Exception as error:
            return failed(error, method_ident)

    def relation(self, tree: Tree[Token]) -> Any:
        """As in cel-python, except for a missing field: see `operators.MISSING`."""
        sign = tree.children[0]
        if isinstance(sign, Token) or sign.data not in ABOUT_MISSING:
            return super().relation(tree)
        nodes = (sign.children[0], tree.children[1])
        values = [self._visit_tree(branch(node)) for node in nodes]
        for node, value in zip(nodes, values, strict=True):
            if isinstance(value, CELEvalError) and len(names_of(node) or ()) < 2:
                return value
        if not any(isinstance(value, CELEvalError) for value in values):
            try:
                return STANDARD[ABOUT_MISSING[sign.data]](*values)
            except TypeError as error:  # `&&` and `||` may absorb it
                return CELEvalError(str(error), TypeError, error.args, tree=tree)
        is_null = sign.data != "relation_in" and any(
            (token := literal_token(node)) is not None and token.type == "NULL_LIT" for node in nodes
        )
        return BoolType(is_null is not (sign.data == "relation_ne"))

    def member_dot(self, tree: Tree[Token]) -> Any:
        """As in cel-python, but the error does not quote the value, which may be long."""
        owner, name = self._visit_tree(branch(tree.children[0])), str(tree.children[1])
        if isinstance(owner, CELEvalError):
            return owner
        if not isinstance(owner, MapType):
            return failed(TypeError(f"{type(owner).__name__} has no field {name!r}"), tree.children[1])
        if name not in owner:
            return failed(KeyError(f"there is no field {name!r}"), tree.children[1])
        return owner[name]

    def member_dot_arg(self, tree: Tree[Token]) -> Any:
        owner, name, *rest = tree.children
        if name not in MACROS:
            return super().member_dot_arg(tree)
        items = self._visit_tree(branch(owner))
        if isinstance(items, CELEvalError):
            return items
        if not isinstance(items, (ListType, MapType)):
            return failed(TypeError(f"{name}() takes a list or a map, got {type(items).__name__}"), name)
        variable, body = arguments(rest)
        inner, bound = self.sub_evaluator(branch(body)), only_name(variable) or ""
        values = (value_of(inner, bound, item) for item in items)
        try:
            return MACRO_RULES[str(name)](items, values)
        except (CELEvalError, TypeError) as error:
            return error if isinstance(error, CELEvalError) else failed(error, name)


def branch(node: Tree[Token] | Token) -> Tree[Token]:
    """The node as a Tree, which the grammar makes it."""
    assert isinstance(node, Tree)
    return node


def failed(error: Exception, place: Any) -> CELEvalError:
    """The error as cel-python's error value."""
    return CELEvalError(str(error), type(error), error.args, token=place)


def value_of(inner: Evaluator, bound: str, item: Any) -> Any:
    """The value of a macro's body for one element; an error is returned as a value."""
    try:
        return inner.evaluate({bound: item})
    except CELEvalError as error:
        return error


def quantify(values: Iterator[Any], *, deciding: bool) -> Any:
    join = STANDARD["_||_" if deciding else "_&&_"]
    outcome: Any = BoolType(not deciding)
    for value in values:
        if isinstance(value, BoolType) and bool(value) is deciding:
            return value
        try:
            outcome = join(outcome, value)
        except TypeError as error:
            outcome = CELEvalError(str(error), TypeError, error.args)
    return outcome


def judged(values: Iterator[Any]) -> Iterator[bool]:
    for value in values:
        if isinstance(value, CELEvalError):
            raise value
        if not isinstance(value, BoolType):
            raise TypeError(f"a condition is a bool, got {type(value).__name__}")
        yield bool(value)


def mapped(values: Iterator[Any]) -> ListType:
    made: list[Any] = []
    for value in values:
        if isinstance(value, CELEvalError):
            raise value
        made.append(value)
    return ListType(made)


MACRO_RULES: MappingProxyType[str, Callable[[Any, Iterator[Any]], Any]] = MappingProxyType(
    {
        "all": lambda items, values: quantify(values, deciding=False),
        "exists": lambda items, values: quantify(values, deciding=True),
        "exists_one": lambda items, values: BoolType(sum(judged(values)) == 1),
        "filter": lambda items, values: ListType(
            [item for item, holds in zip(items, judged(values), strict=True) if holds]
        ),
        "map": lambda items, values: mapped(values),
    }
)
"""Macro -> the function that makes its value from the elements, and from the body's value for each of them."""


class Runner(celpy.InterpretedRunner):
    """cel-python's runner with our Evaluator."""

    def evaluate(self, context: Any) -> Any:
        return Evaluator(self.ast, activation=self.new_activation()).evaluate(context)
