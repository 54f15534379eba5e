"""What is compiled gives what cel-python gives: the same value of the same type, or an error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from celpy.evaluation import Evaluator as PlainEvaluator
from hypothesis import given, settings
from lark import Token, Tree

from taskflow.expressions.compiler import compile_tree
from taskflow.expressions.interpreter import Evaluator, Runner
from taskflow.expressions.operators import ERRORS, Unsure
from taskflow.expressions.reference import Program, compile_program, environment, parse
from taskflow.expressions.standard import STANDARD
from tests.expressions.generated import SIGNS, VALUES, Wire, events, macros, sources


def by_reference(program: Program, event: Wire, async_event: Wire) -> str:
    """The value as text that shows its type; "error" for any error."""
    try:
        return repr(program.run(event, async_event))
    except Exception:
        return "error"


def by_closure(program: Program, event: Wire, async_event: Wire) -> str:
    """As `by_reference`; "unsure" for data that is left to the reference."""
    closure = compile_tree(program.tree)
    assert closure is not None, "it isn't compiled"
    try:
        return repr(closure(event, async_event))
    except ERRORS:
        return "error"
    except Unsure:
        return "unsure"


class WithPlainMacros(Evaluator):
    """cel-python's own macros, which are our measure for what they give where they give a value."""

    def sub_evaluator(self, ast: Tree[Token]) -> WithPlainMacros:
        return WithPlainMacros(ast, activation=self.activation)

    def member_dot_arg(self, tree: Tree[Token]) -> Any:
        return PlainEvaluator.member_dot_arg(self, tree)


class PlainRunner(Runner):
    def evaluate(self, context: Any) -> Any:
        return WithPlainMacros(self.ast, activation=self.new_activation()).evaluate(context)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(macros, events(), events())
def test_macros_give_what_those_of_cel_python_give(source: str, event: Wire, async_event: Wire) -> None:
    program = compile_program(source, ("event", "async"))
    plain = replace(program, runner=PlainRunner(environment()[0], program.tree, dict(STANDARD)))
    wanted, got = by_reference(plain, event, async_event), by_closure(program, event, async_event)
    # cel-python takes any value as a condition, and the characters of a text as elements; and its errors pass by `||`.
    if "error" not in (wanted, got) and got != "unsure":
        assert got == wanted, source


def differs(source: str, event: Wire, async_event: Wire) -> str:
    """What differs between closure and reference; empty if nothing does. `Unsure` leaves the value to the reference."""
    program = compile_program(source, ("event", "async"))
    got = by_closure(program, event, async_event)
    wanted = got if got == "unsure" else by_reference(program, event, async_event)
    return (
        "" if got == wanted else f"{source}: expected {wanted}, got {got}, for {event!r} and {async_event!r}"
    )


@settings(max_examples=400, deadline=None, derandomize=True)
@given(sources, events(), events())
def test_generated_expressions_have_one_value(source: str, event: Wire, async_event: Wire) -> None:
    assert differs(source, event, async_event) == ""


@pytest.mark.parametrize("sign", SIGNS)
def test_each_operator_agrees_on_each_pair_of_values(sign: str) -> None:
    program = compile_program(f"event.data.a {sign} async.data.a", ("event", "async"))
    closure = compile_tree(program.tree)
    assert closure is not None
    wrong = []
    for left in VALUES:
        for right in VALUES:
            event, async_event = {"data": {"a": left}}, {"data": {"a": right}}
            try:
                got = repr(closure(event, async_event))
            except ERRORS:
                got = "error"
            except Unsure:
                continue
            wanted = by_reference(program, event, async_event)
            if got != wanted:
                wrong.append(f"{left!r} {sign} {right!r}: expected {wanted}, got {got}")
    assert wrong == []


@pytest.mark.parametrize(
    "source",
    [
        "event.data.list.all(i, i > 0) || (event.data.list.exists(i, i == 2))",
        "event.data.list.map(i, (i * 2)).filter(j, j > 2 && j in event.data.list.map(k, k + 1))",
        "[[1], [2, 3]].exists_one(row, row.exists(i, (i) > 2))",
        "event.data.rows.filter(row, has(row.a) && row.a.b != null).map(row, row.a.b)",
        "event.data.rows.exists(row, row.missing == 1) || true",
        "{1: 'a', 2u: ('b')}[(1)] + {true: 'c'}[true]",
        "timestamp(event.data.when).getFullYear() == 2030 ? duration('1h') : duration('2h')",
        "(timestamp(event.data.when) + duration('1h')) - timestamp(event.data.when)",
        "type((event.data.list)) == list && type(1.0) != int",
        "!((bool('true')) && -(7u + 1u) < 0) || 1u / 0u == 1u",
        "b'abc'.size() + size([b'a', [(1u)], {'a': 2u}])",
        "has(event.data.missing.a) ? uint(1) : uint('7')",
        "event.data.list[int(1u)] + [1, 2].map(i, i)[0]",
    ],
)
def test_a_simplified_tree_gives_what_the_whole_one_gives(source: str) -> None:
    event = {
        "data": {
            "list": [1, 2, 3],
            "rows": [{"a": {"b": 1}}, {"a": {"b": None}}, {}],
            "when": "2030-01-01T00:00:00Z",
        }
    }
    simplified = compile_program(source, ("event",))
    whole = parse(source)
    runner = Runner(environment()[0], whole, dict(STANDARD))
    wanted = by_reference(replace(simplified, tree=whole, runner=runner), event, {})
    assert by_reference(simplified, event, {}) == wanted
