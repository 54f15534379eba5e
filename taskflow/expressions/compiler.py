"""Compiles the common part of CEL to Python closures over plain values.

Paths, literals, comparisons, logic, arithmetic, the ternary, `in`, has() and the functions of `functions` are compiled. An
expression with anything else (macros, timestamps, unsigned integers, bytes) is left to the reference as a whole. Both give
the same values and the same errors.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from taskflow.expressions import operators
from taskflow.expressions.functions import FUNCTIONS, finder, refused
from taskflow.expressions.operators import NUMBERS, Unsure
from taskflow.expressions.tree import arguments, literal, literal_token, names_of, string_of, unwrap
from taskflow.types import EventFields

if TYPE_CHECKING:
    from lark import Token

    from taskflow.expressions.tree import Node

Closure: TypeAlias = Callable[[EventFields, EventFields], Any]
"""Takes the values of `event` and `async`."""

ERRORS = (LookupError, TypeError, ValueError, ArithmeticError)
"""What a closure raises for an error of CEL, which `&&`, `||` and has() may absorb."""


class Unsupported(Exception):
    """The expression has a construct that isn't compiled."""


def compile_tree(tree: Node) -> Closure | None:
    """A closure for a checked parse tree; None if it is for the reference.

    The closure raises one of `ERRORS` where CEL has an error, and Unsure for data that is for the reference.
    """
    try:
        return build(tree)
    except Unsupported:
        return None


def build(node: Node | Token) -> Closure:
    node = unwrap(node)
    if isinstance(node, str):
        raise Unsupported
    builder = BUILDERS.get(node.data)
    if builder is None:
        raise Unsupported
    return builder(node)


def build_path(node: Node) -> Closure:
    """`event.data.x` and `event["data"]["x"]`, or a member or item of any other value."""
    names = names_of(node)
    if names is not None:
        return read_path(names)
    if node.data not in ("member_dot", "member_index"):
        raise Unsupported
    owner = build(node.children[0])
    if node.data == "member_index":
        return binary(operators.item_at, owner, build(node.children[1]))
    name = str(node.children[1])

    def read_member(event: EventFields, async_: EventFields) -> Any:
        value = owner(event, async_)
        if type(value) is dict:
            return value[name]
        raise TypeError(f"{type(value).__name__} has no field {name!r}")

    return read_member


def read_path(names: Sequence[str]) -> Closure:
    variable, *keys = names
    if variable not in ("event", "async"):
        raise Unsupported
    missing = f"there is no {'.'.join(names)}"
    if variable == "async":

        def read_async(event: EventFields, async_: EventFields) -> Any:
            value: Any = async_
            try:
                for key in keys:
                    value = value[key]
            except (KeyError, TypeError):
                raise LookupError(missing) from None
            return value

        return read_async

    def read_event(event: EventFields, async_: EventFields) -> Any:
        value: Any = event
        try:
            for key in keys:
                value = value[key]
        except (KeyError, TypeError):
            raise LookupError(missing) from None
        return value

    return read_event


def build_literal(node: Node) -> Closure:
    value = literal_of(node)
    return lambda event, async_: value


def literal_of(node: Node | Token) -> Any:
    """The value of a literal. Raises Unsupported for one that only the reference knows, and for anything else."""
    token = literal_token(node)
    if token is None:
        raise Unsupported
    try:
        return literal(token)
    except ValueError:
        raise Unsupported from None


def constant(node: Node | Token) -> list[Any]:
    """The value of a literal, in a list, as it may be null; [] for anything else."""
    return [] if literal_token(node) is None else [literal_of(node)]


def build_list(node: Node) -> Closure:
    items = [build(item) for item in arguments(node.children)]
    return lambda event, async_: [item(event, async_) for item in items]


def build_map(node: Node) -> Closure:
    entries = arguments(node.children)
    keys = [string_of(key) for key in entries[::2]]
    if None in keys or len(set(keys)) < len(keys):
        raise Unsupported
    fields = list(zip(keys, map(build, entries[1::2]), strict=True))

    def make(event: EventFields, async_: EventFields) -> Any:
        try:
            return {key: value(event, async_) for key, value in fields}
        except ERRORS:
            raise Unsure from None  # cel-python keeps the error in the map

    return make


def binary(function: Callable[[Any, Any], Any], left: Closure, right: Closure) -> Closure:
    return lambda event, async_: function(left(event, async_), right(event, async_))


def build_binary(node: Node) -> Closure:
    """Arithmetic and relations: the operator's node holds the left side, the right one follows."""
    sign, right = node.children
    if isinstance(sign, str):
        raise Unsupported
    left = sign.children[0]
    if sign.data in ("relation_eq", "relation_ne"):
        for one, other in ((left, right), (right, left)):
            for value in constant(other):
                return equals(build(one), value, wanted=sign.data == "relation_eq")
    if sign.data in COMPARISONS:
        compare = COMPARISONS[sign.data]
        for value in constant(right):
            return is_ordered(build(left), compare, value)
        return binary(operators.ordering(compare), build(left), build(right))
    if sign.data == "relation_in":
        return build_in(left, right)
    return binary(OPERATORS[sign.data], build(left), build(right))


def equals(read: Closure, value: Any, *, wanted: bool) -> Closure:
    """Whether what `read` gives equals a literal, or does not."""
    if value is None or isinstance(value, bool):
        return lambda event, async_: (read(event, async_) is value) is wanted
    if isinstance(value, str):
        return lambda event, async_: (read(event, async_) == value) is wanted

    def is_number(event: EventFields, async_: EventFields) -> bool:
        got = read(event, async_)
        return (got == value and type(got) is not bool) is wanted

    return is_number


def is_ordered(read: Closure, compare: Callable[[Any, Any], bool], value: Any) -> Closure:
    """Whether what `read` gives stands so to a literal."""
    if value is None:
        return binary(operators.ordering(compare), read, lambda event, async_: None)
    kinds = NUMBERS if type(value) in NUMBERS else frozenset((type(value),))

    def decide(event: EventFields, async_: EventFields) -> bool:
        got = read(event, async_)
        if type(got) in kinds:
            return compare(got, value)
        raise operators.refusal("order", got, value)

    return decide


def build_in(item: Node | Token, container: Node | Token) -> Closure:
    read, inner = build(item), unwrap(container)
    if not isinstance(inner, str) and inner.data == "list_lit":
        texts = [string_of(member) for member in arguments(inner.children)]
        if None not in texts:
            members = frozenset(texts)

            def is_member(event: EventFields, async_: EventFields) -> bool:
                got = read(event, async_)
                return type(got) is str and got in members

            return is_member
    return binary(operators.is_in, read, build(container))


def build_unary(node: Node) -> Closure:
    sign, operand = node.children
    if isinstance(sign, str):
        raise Unsupported
    apply, read = operators.invert if sign.data == "unary_not" else operators.negate, build(operand)
    return lambda event, async_: apply(read(event, async_))


def build_and(node: Node) -> Closure:
    left, right = map(build, node.children)
    return logical(left, right, deciding=False)


def build_or(node: Node) -> Closure:
    left, right = map(build, node.children)
    return logical(left, right, deciding=True)


def logical(left: Closure, right: Closure, *, deciding: bool) -> Closure:
    """`||` is decided by a true on either side, `&&` by a false, whatever the other side is: even an error."""
    neutral = not deciding

    def decide(event: EventFields, async_: EventFields) -> Any:
        try:
            first = left(event, async_)
        except ERRORS:
            if right(event, async_) is deciding:
                return deciding
            raise
        if first is deciding:
            return deciding
        second = right(event, async_)
        if first is neutral:
            return second
        if second is neutral:  # what is no bool is the result then, as in cel-python
            return first
        if second is deciding:
            return deciding
        raise operators.refusal("'||'" if deciding else "'&&'", first, second)

    return decide


def build_ternary(node: Node) -> Closure:
    test, one, other = map(build, node.children)

    def choose(event: EventFields, async_: EventFields) -> Any:
        value = test(event, async_)
        if value is True:
            return one(event, async_)
        if value is False:
            return other(event, async_)
        raise TypeError(f"'? :' takes a bool, got {type(value).__name__}")

    return choose


def build_method(node: Node) -> Closure:
    owner, name, *rest = node.children
    return build_function(str(name), [owner, *arguments(rest)])


def build_call(node: Node) -> Closure:
    name, *rest = node.children
    given = arguments(rest)
    if name == "has" and len(given) == 1:
        return has(build(given[0]))
    if name == "dyn" and len(given) == 1:
        return build(given[0])
    return build_function(str(name), given)


def build_function(name: str, given: Sequence[Node | Token]) -> Closure:
    count, function = FUNCTIONS.get(name, (-1, None))
    if function is None or count != len(given):
        raise Unsupported
    if name == "matches" and (pattern := string_of(given[1])) is not None:
        return matching(build(given[0]), pattern)
    if count == 2:
        return binary(function, build(given[0]), build(given[1]))
    read = build(given[0])
    return lambda event, async_: function(read(event, async_))


def matching(read: Closure, pattern: str) -> Closure:
    """matches() with a pattern that is known, and was checked: found here once instead of at each call."""
    find = finder(pattern)

    def decide(event: EventFields, async_: EventFields) -> bool:
        text = read(event, async_)
        if type(text) is str:
            return find(text) is not None
        raise refused("matches", text)

    return decide


def has(read: Closure) -> Closure:
    def decide(event: EventFields, async_: EventFields) -> bool:
        try:
            read(event, async_)
        except ERRORS:
            return False
        return True

    return decide


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
BUILDERS: MappingProxyType[str, Callable[[Node], Closure]] = MappingProxyType(
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
