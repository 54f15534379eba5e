"""The values at the edges of CEL, as the reference has them and as they are compiled."""

from __future__ import annotations

import math
from typing import Any

import pytest

from taskflow.errors import ExpressionError
from taskflow.expressions.cel import Expression, compile_expression

EVENT: dict[str, Any] = {
    "name": "shop/paid",
    "data": {
        "n": 2,
        "text": "abc",
        "none": None,
        "yes": True,
        "list": [1, 2, 3],
        "map": {"key": "value"},
        "big": 2**63,
        "max": 2**63 - 1,
        "min": -(2**63),
        "half": 0.5,
    },
}


def both(source: str) -> list[Expression]:
    """The expression compiled, and evaluated by the reference only."""
    expression = compile_expression(source, what="it", variables=("event", "async"))
    assert expression.is_compiled
    return [expression, Expression(source, compiled=None, reference=expression.by_reference)]


VALUES: dict[str, list[tuple[str, Any]]] = {
    "an error on one side decides nothing where the other side does": [
        ("event.data.missing == 1 || true", True),
        ("true || event.data.missing == 1", True),
        ("event.data.missing == 1 && false", False),
        ("false && event.data.missing == 1", False),
        ("!(1 / 0 == 1 && false)", True),
        ("int(1.0 / 0.0) == 1 || true", True),
        ("true || int(1.0 / 0.0) == 1", True),
        ("event.data.text > 1 || event.data.list[9] == 1 || true", True),
        ("(event.data.none && true) == null", True),
        ("5 || false", 5),
        ("false && 0 in event.data.none", False),
        ("0 in event.data.none || true", True),
    ],
    "only the chosen branch is evaluated": [
        ("true ? 1 : 1 / 0", 1),
        ("false ? 1 / 0 : 2", 2),
        ("has(event.data.missing) ? event.data.missing : 'none'", "none"),
        ("true ? (false ? 1 : 2) : 3", 2),
        ("false ? 1 : true ? 2 : 3", 2),
    ],
    "integers have 64 bits": [
        ("event.data.max + 0", 2**63 - 1),
        ("-event.data.max - 1", -(2**63)),
        ("event.data.big", 2**63),
        ("event.data.big + 1", 2**63 + 1),
        ("event.data.big > event.data.max", True),
        ("event.data.big / 2", 2**62),
        ("event.data.big - event.data.big", 0),
    ],
    "division cuts towards zero, and the remainder has the sign of the left side": [
        ("7 / 2", 3),
        ("-7 / 2", -3),
        ("7 / -2", -3),
        ("-7 / -2", 3),
        ("7 % 3", 1),
        ("-7 % 3", -1),
        ("7 % -3", 1),
        ("-7 % -3", -1),
        ("event.data.min % -1", 0),
    ],
    "doubles know infinity": [
        ("1.0 / 0.0", math.inf),
        ("-1.0 / 0.0", math.inf),
        ("1 / 0.0", math.inf),
        ("1e300 * 1e300", math.inf),
        ("(1.0 / 0.0 - 1.0 / 0.0) == (1.0 / 0.0 - 1.0 / 0.0)", False),
        ("1.0 / 0.0 > event.data.max", True),
        ("event.data.half + 1", 1.5),
        ("7 / 2.0", 3.5),
    ],
    "numbers are compared by value": [
        ("event.data.n == 2.0", True),
        ("2.0 == event.data.n", True),
        ("[1, 2.0] == [1.0, 2]", True),
        ("9007199254740993 == 9007199254740992.0", False),
        ("9007199254740993 > 9007199254740992.0", True),
        ("0.0 == -0.0", True),
    ],
    "types are never mixed up": [
        ("event.data.yes == 1", False),
        ("1 == event.data.yes", False),
        ("event.data.yes != 1", True),
        ("0 == false", False),
        ("event.data.none == false", False),
        ("'1' == 1", False),
        ("1 in [true]", False),
        ("true in [1, true]", True),
        ("event.data.list in ['a', 'b']", False),
        ("null in [1, null]", True),
        ("'key' in event.data.map", True),
        ("1 in event.data.map", False),
        ("{'a': [1]} == {'a': [1.0]}", True),
        ("false < true", True),
        ("'Z' < 'a'", True),
    ],
    "conversions": [
        ("string(7)", "7"),
        ("string(1.0)", "1.0"),
        ("string(1e16)", "1e+16"),
        ("string(0.1)", "0.1"),
        ("string(true)", "True"),
        ("string(null)", "None"),
        ("string(1.0 / 0.0)", "inf"),
        ("string(event.data.big)", "9223372036854775808"),
        ("int('42')", 42),
        ("int('-0x1F')", -31),
        ("int(' 7 ')", 7),
        ("int(2.9)", 2),
        ("int(-2.9)", -2),
        ("int(true)", 1),
        ("int(null)", 0),
        ("double('1.5')", 1.5),
        ("double('-inf')", -math.inf),
        ("double(7)", 7.0),
        ("dyn(7)", 7),
    ],
    "text, lists and maps": [
        ("size('ä€😀')", 3),
        ("'ä€😀'.size()", 3),
        ("size(event.data.map) + size(event.data.list) + size(null)", 4),
        ("('a' + 'b').contains('ab') && startsWith('abc', 'a')", True),
        ("'abc'.matches('^a.c$') && !'abc'.matches('^b')", True),
        ("'x'.matches(event.data.text)", False),
        ("'abc'[1]", "b"),
        ("event.data.list[2]", 3),
        ("event.data.list[-1]", 3),
        ("[1] + [2, 'a']", [1, 2, "a"]),
        ("([true] + [false])[0]", True),
        ("{'a': {'b': 7}}.a['b']", 7),
        ("size({'a': 1 / 0})", 1),
        ("[1, 2].contains(2)", True),
        ("r'a\\b' == 'a\\\\b'", True),
        ('"\\u00e4\\101\\x41"', "äAA"),
    ],
    "has() says whether there is a value": [
        ("has(event.data.none)", True),
        ("has(event.data.missing)", False),
        ("has(event.data.missing.deeper)", False),
        ("has(event.data.n.deeper)", False),
        ("has(async.data)", False),
    ],
}


@pytest.mark.parametrize(
    ("source", "value"), [pytest.param(*pair, id=pair[0]) for pairs in VALUES.values() for pair in pairs]
)
def test_a_value_at_the_edge(source: str, value: Any) -> None:
    for expression in both(source):
        got = expression.evaluate(EVENT)
        assert got == value
        assert type(got) is type(value)


@pytest.mark.parametrize(
    "source",
    [
        "event.data.missing",
        "event.data.missing || false",
        "true && event.data.missing",
        "event.data.missing ? 1 : 2",
        "event.data.n ? 1 : 2",
        "null && null",
        "5 && 6",
        "!5",
        "!null",
        "-'a'",
        "-event.data.min",
        "-event.data.big",
        "-true",
        "event.data.max + 1",
        "event.data.min - 1",
        "event.data.max * 2",
        "event.data.min / -1",
        "event.data.big - event.data.big - 1",
        "9223372036854775807 + 1",
        "1 / 0",
        "1 % 0",
        "1.5 % 1.0",
        "true + true",
        "1 + true",
        "null + 1",
        "null / 0.0",
        "'a' + 1",
        "'a' * 2",
        "'%s' % 1",
        "event.data.list * 2",
        "{} + {}",
        "1 < 'a'",
        "null < null",
        "[1] < [2]",
        "true < 1",
        "1 in 'abc'",
        "'a' in 'abc'",
        "'a' in null",
        "int('x')",
        "int('')",
        "int('9223372036854775808')",
        "int(1e300)",
        "int(1.0 / 0.0)",
        "int(1.0 / 0.0 - 1.0 / 0.0)",
        "int(event.data.big)",
        "int([])",
        "double('x')",
        "double({})",
        "size(1)",
        "size(true)",
        "event.data.list[3]",
        "event.data.list['a']",
        "event.data.list[1.0]",
        "event.data.map[1]",
        "event.data.map['missing']",
        "event.data.map.missing",
        "event.data.text.key",
        "event.data.none.key",
        "[1].key",
        "null.startsWith('a')",
        "'a'.startsWith(1)",
        "event.data.n.contains('a')",
        "'a'.matches(event.data.n)",
        "'a'.matches('[' + event.data.text)",
        "{'a': 1 / 0}.a",
        "{'a': 1 / 0}",
        "[1 / 0]",
        "async.data",
    ],
)
def test_an_error_at_the_edge(source: str) -> None:
    for expression in both(source):
        with pytest.raises(ExpressionError):
            expression.evaluate(EVENT)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("event.data.list.all(i, uint(i) > 0u) && event.data.n == 2", True),
        ("event.data.list.filter(i, uint(i) > 1u).size()", 2),
        ("timestamp('2030-01-01T00:00:00Z') > timestamp('2029-01-01T00:00:00Z')", True),
        ("duration('90s') > duration('1m')", True),
        ("type(event.data.n) == int", True),
        ("bool('true')", True),
        ("7u + 1u", 8),
        ("b'a' == b'a'", True),
        ("{1: 'a'}[1]", "a"),
        ("true || 99999999999999999999 > 1", True),
    ],
)
def test_what_is_not_compiled_is_evaluated_by_the_reference(source: str, value: Any) -> None:
    expression = compile_expression(source, what="it")
    assert not expression.is_compiled
    assert expression.evaluate(EVENT) == value


def test_an_error_says_which_field_is_missing() -> None:
    expression = compile_expression("event.data.customer.id > 1", what="it")
    with pytest.raises(ExpressionError, match=r"there is no event\.data\.customer\.id$"):
        expression.evaluate(EVENT)


def test_a_pattern_of_an_event_that_is_none_says_nothing_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    expression = compile_expression("event.data.text.matches(event.data.pattern)", what="it")
    assert not expression.matches({"data": {"text": "a", "pattern": "("}})
    assert capfd.readouterr().err == ""
