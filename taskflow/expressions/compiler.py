"""Compiles CEL to Python closures over plain values.

Paths, literals, comparisons, logic, arithmetic, the ternary, `in`, has(), the macros and the functions of `functions` are
compiled. An expression with anything else (timestamps, unsigned integers, bytes) is left as a whole to the reference,
cel-python. Both give the same values and the same errors.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from taskflow.expressions import operators
from taskflow.expressions.budget import Budget
from taskflow.expressions.closures import (
    binary,
    equals,
    has,
    is_ordered,
    logical,
    matching,
    read_path,
    weighed,
    weighing,
)
from taskflow.expressions.functions import FUNCTIONS
from taskflow.expressions.macros import MACROS
from taskflow.expressions.operators import ERRORS, Unsure
from taskflow.expressions.scope import NO_ELEMENTS, PLAIN, Closure, Scope, Unsupported
from taskflow.expressions.tree import (
    arguments,
    literal,
    literal_token,
    names_of,
    only_name,
    string_of,
    unwrap,
)
from taskflow.types import EventFields

if TYPE_CHECKING:
    from lark import Token

    from taskflow.expressions.tree import Node


def compile_tree(tree: Node) -> Closure | None:
    """A closure for a checked parse tree; None if only the reference can evaluate it.

    The closure takes the values of `event` and `async`. It raises one of `ERRORS` where CEL has an error, Unsure for data that
    only the reference can treat, and Exhausted for data that takes too much work.
    """
    try:
        if any(macro_of(node) for node in tree.iter_subtrees()):
            return in_frame(build(tree, Scope(is_framed=True)))
        return build(tree, PLAIN)
    except Unsupported:
        return None


def in_frame(run: Closure) -> Closure:
    """A closure that calls `run` with a new frame and a new budget, which is charged for the size of the result too."""

    def evaluate(event: EventFields, async_: EventFields) -> Any:
        budget = Budget()
        value = run([event, async_, budget, *NO_ELEMENTS], None)
        budget.weigh(value)
        return value

    return evaluate


def build(node: Node | Token, scope: Scope) -> Closure:
    node = unwrap(node)
    if isinstance(node, str):
        raise Unsupported
    builder = BUILDERS.get(node.data)
    if builder is None:
        raise Unsupported
    return builder(node, scope)


def build_path(node: Node, scope: Scope) -> Closure:
    """A closure for `event.data.x` and `event["data"]["x"]`, or for a member or item of any other value."""
    names = names_of(node)
    if names is not None:
        return read_path(names, scope)
    if node.data not in ("member_dot", "member_index"):
        raise Unsupported
    owner = build(node.children[0], scope)
    if node.data == "member_index":
        return binary(operators.item_at, owner, build(node.children[1], scope))
    name = str(node.children[1])

    def read_member(event: EventFields, async_: EventFields) -> Any:
        value = owner(event, async_)
        if type(value) is dict:
            return value[name]
        raise TypeError(f"{type(value).__name__} has no field {name!r}")

    return read_member


def build_literal(node: Node, scope: Scope) -> Closure:
    value = literal_of(node)
    return lambda event, async_: value


def literal_of(node: Node | Token) -> Any:
    """The value of a literal. Raises Unsupported for a literal that only the reference knows, and for a node that is no literal."""
    token = literal_token(node)
    if token is None:
        raise Unsupported
    try:
        return literal(token)
    except ValueError:
        raise Unsupported from None


def constant(node: Node | Token) -> list[Any]:
    """The value of a literal in a list, since it may be null; [] for a node that is no literal."""
    return [] if literal_token(node) is None else [literal_of(node)]


def build_list(node: Node, scope: Scope) -> Closure:
    items = [build(item, scope) for item in arguments(node.children)]
    return lambda event, async_: [item(event, async_) for item in items]


def build_map(node: Node, scope: Scope) -> Closure:
    entries = arguments(node.children)
    keys = [string_of(key) for key in entries[::2]]
    if None in keys or len(set(keys)) < len(keys):
        raise Unsupported
    fields = list(zip(keys, [build(entry, scope) for entry in entries[1::2]], strict=True))

    def make(event: EventFields, async_: EventFields) -> Any:
        try:
            return {key: value(event, async_) for key, value in fields}
        except ERRORS:
            raise Unsure from None  # cel-python keeps the error in the map

    return make


def build_binary(node: Node, scope: Scope) -> Closure:
    """Arithmetic and relations. The operator's node contains the left side; the right side follows it."""
    sign, right = node.children
    if isinstance(sign, str):
        raise Unsupported
    left = sign.children[0]
    if sign.data in ("relation_eq", "relation_ne"):
        for one, other in ((left, right), (right, left)):
            for value in constant(other):
                return equals(build_operand(one, scope), value, wanted=sign.data == "relation_eq")
    if sign.data in COMPARISONS:
        compare = COMPARISONS[sign.data]
        for value in constant(right):
            return is_ordered(build(left, scope), compare, value)
        return weighed(operators.ordering(compare), build(left, scope), build(right, scope), scope)
    if sign.data == "relation_in":
        return build_in(left, right, scope)
    build_side = build_operand if sign.data in ("relation_eq", "relation_ne") else build
    return weighed(OPERATORS[sign.data], build_side(left, scope), build_side(right, scope), scope)


def build_operand(node: Node | Token, scope: Scope) -> Closure:
    """One side of `==`, `!=` or `in`: a missing field has a value there, MISSING, and is no error."""
    names = names_of(node)
    if names is None or len(names) < 2:
        return build(node, scope)
    return read_path(names, scope, otherwise=operators.MISSING)


def build_in(item: Node | Token, container: Node | Token, scope: Scope) -> Closure:
    read, inner = build_operand(item, scope), unwrap(container)
    if not isinstance(inner, str) and inner.data == "list_lit":
        texts = [string_of(member) for member in arguments(inner.children)]
        if None not in texts:
            members = frozenset(texts)

            def is_member(event: EventFields, async_: EventFields) -> bool:
                got = read(event, async_)
                return type(got) is str and got in members

            return is_member
    return weighed(operators.is_in, read, build_operand(container, scope), scope)


def build_unary(node: Node, scope: Scope) -> Closure:
    sign, operand = node.children
    if isinstance(sign, str):
        raise Unsupported
    apply, read = operators.invert if sign.data == "unary_not" else operators.negate, build(operand, scope)
    return lambda event, async_: apply(read(event, async_))


def build_and(node: Node, scope: Scope) -> Closure:
    left, right = (build(child, scope) for child in node.children)
    return logical(left, right, deciding=False)


def build_or(node: Node, scope: Scope) -> Closure:
    left, right = (build(child, scope) for child in node.children)
    return logical(left, right, deciding=True)


def build_ternary(node: Node, scope: Scope) -> Closure:
    test, one, other = (build(child, scope) for child in node.children)

    def choose(event: EventFields, async_: EventFields) -> Any:
        value = test(event, async_)
        if value is True:
            return one(event, async_)
        if value is False:
            return other(event, async_)
        raise TypeError(f"'? :' takes a bool, got {type(value).__name__}")

    return choose


def build_method(node: Node, scope: Scope) -> Closure:
    if macro_of(node):
        return build_macro(node, scope)
    owner, name, *rest = node.children
    return build_function(str(name), [owner, *arguments(rest)], scope)


def macro_of(node: Node) -> str:
    """The name of the macro that `node` calls; empty if it calls none."""
    return str(node.children[1]) if node.data == "member_dot_arg" and node.children[1] in MACROS else ""


def build_macro(node: Node, scope: Scope) -> Closure:
    owner, name, rest = node.children
    variable, body = arguments([rest])
    inner, bound = unwrap(body), only_name(variable)
    if bound is None:
        raise Unsupported
    cost = 1 if isinstance(inner, str) else 1 + sum(1 for _ in inner.iter_subtrees())
    return MACROS[str(name)](build(owner, scope), build(inner, scope.inside(bound)), scope.next_slot, cost)


def build_call(node: Node, scope: Scope) -> Closure:
    name, *rest = node.children
    given = arguments(rest)
    if name == "has" and len(given) == 1:
        return has(build(given[0], scope))
    if name == "dyn" and len(given) == 1:
        return build(given[0], scope)
    return build_function(str(name), given, scope)


def build_function(name: str, given: Sequence[Node | Token], scope: Scope) -> Closure:
    count, function = FUNCTIONS.get(name, (-1, None))
    if function is None or count != len(given):
        raise Unsupported
    if name == "matches" and (pattern := string_of(given[1])) is not None:
        return matching(weighing(build(given[0], scope), scope), pattern)
    if count == 2:
        return weighed(function, build(given[0], scope), build(given[1], scope), scope)
    read = build(given[0], scope)
    if name != "size":
        read = weighing(read, scope)
    return lambda event, async_: function(read(event, async_))


COMPARISONS: MappingProxyType[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {
        "relation_lt": operator.lt,
        "relation_le": operator.le,
        "relation_gt": operator.gt,
        "relation_ge": operator.ge,
    }
)
OPERATORS: MappingProxyType[str, Callable[[Any, Any], Any]] = MappingProxyType(
    {
        "relation_eq": operators.is_same,
        "relation_ne": operators.is_different,
        "addition_add": operators.add,
        "addition_sub": operators.subtract,
        "multiplication_mul": operators.multiply,
        "multiplication_div": operators.divide,
        "multiplication_mod": operators.modulo,
    }
)
BUILDERS: MappingProxyType[str, Callable[[Node, Scope], Closure]] = MappingProxyType(
    {
        "expr": build_ternary,
        "conditionalor": build_or,
        "conditionaland": build_and,
        "relation": build_binary,
        "addition": build_binary,
        "multiplication": build_binary,
        "unary": build_unary,
        "member_dot": build_path,
        "member_index": build_path,
        "member_dot_arg": build_method,
        "ident": build_path,
        "dot_ident": build_path,
        "ident_arg": build_call,
        "literal": build_literal,
        "list_lit": build_list,
        "map_lit": build_map,
    }
)
