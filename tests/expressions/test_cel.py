import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskflow.errors import ConfigError, ExpressionError
from taskflow.expressions.cel import compile_expression

EVENT: dict[str, Any] = {
    "uid": "01",
    "id": "order-1",
    "name": "shop/paid",
    "ts": 1_700_000_000_000,
    "data": {
        "n": 2,
        "half": 0.5,
        "text": "abc",
        "none": None,
        "yes": True,
        "list": [1, 2, 3],
        "map": {"key": "value"},
        "when": "2030-01-01T00:00:00Z",
        "big": 2**63,
        "for": 1,
    },
}
BOTH = ("event", "async")


def evaluate(
    source: str, event: dict[str, Any] | None = None, async_event: dict[str, Any] | None = None
) -> Any:
    return compile_expression(source, what="it", variables=BOTH).evaluate(event or EVENT, async_event)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("event.data.n + 1", 3),
        ("event.name", "shop/paid"),
        ("event.id + '!'", "order-1!"),
        ("event.ts > 5", True),
        ("event.data.half", 0.5),
        ("event.data.none", None),
        ("event.data.yes", True),
        ("event.data.list", [1, 2, 3]),
        ("event.data.map", {"key": "value"}),
        ("event.data['map'].key", "value"),
        ("event['name']", "shop/paid"),
        ("(event).name", "shop/paid"),
        ("event.data.for", 1),
        ("event.data.n in event.data.list", True),
        ("'key' in event.data.map", True),
        ("event.data.text.startsWith('a') && !event.data.text.contains('z')", True),
        ("size(event.data.list) == 3 ? 'three' : 'other'", "three"),
        ("event.data.list.filter(each, each > 1)", [2, 3]),
        ("event.data.list.map(event, event * 2)", [2, 4, 6]),
        ("event.data.list.exists(i, i == 2) && event.data.list.all(i, i > 0)", True),
        ("has(event.user)", False),
        ("has(event.data.map.key)", True),
        ("timestamp(event.data.when)", datetime(2030, 1, 1, tzinfo=UTC)),
        ("duration('90s')", timedelta(seconds=90)),
        ("type(event.data.n) == int", True),
        ("event.data.missing == 1 || true", True),
        ("event.data.big > 9", True),
        ("7 / 2", 3),
        ("event.data.n == 2 // a comment", True),
    ],
)
def test_an_expression_gives_a_plain_value(source: str, value: Any) -> None:
    result = evaluate(source)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("event.data.n > 1.5", True),
        ("event.data.n == 2.0", True),
        ("1.5 < event.data.n", True),
        ("event.data.n in [2.0]", True),
        ("[1, 2] == [1.0, 2.0]", True),
        ("event.data.n * 1.5", 3.0),
        ("0.5 + event.data.n", 2.5),
        ("1u == 1", True),
    ],
)
def test_numbers_are_numbers(source: str, value: Any) -> None:
    assert evaluate(source) == value


@pytest.mark.parametrize(
    "source",
    [
        "event.data.n != null",
        "event.data.map != null",
        "event.data.n != 'x'",
        "!(event.data.yes == 1)",
        "event.data.none == null",
        "event.data.none != 'x'",
        "{'a': 1} != {'a': '1'}",
        "!('2' in event.data.list)",
    ],
)
def test_values_of_different_types_are_unequal(source: str) -> None:
    assert compile_expression(source, what="it").matches(EVENT)


@pytest.mark.parametrize(
    "source",
    [
        "event.data.missing > 1",
        "event.user.id > 1",
        "event.v > '1'",
        "event.data.text > 1",
        "event.data.none > 1",
        "event.data.n.x > 1",
        "event.data.list[9] == 1",
        "1 / 0 == 1",
        "event.data.text + 1 == ''",
        "9223372036854775807 + event.data.n > 0",
        "timestamp(event.data.text) > timestamp(event.data.when)",
        "async.data.n > 2",
    ],
)
def test_what_has_no_value_is_an_error_and_no_match(source: str) -> None:
    expression = compile_expression(source, what="it", variables=BOTH)
    with pytest.raises(ExpressionError, match="^CEL expression "):
        expression.evaluate(EVENT)
    assert not expression.matches(EVENT)


@pytest.mark.parametrize("source", ["1", "'true'", "event.data.list", "null", "event.data.n"])
def test_only_true_matches(source: str) -> None:
    assert not compile_expression(source, what="it").matches(EVENT)


def test_async_is_the_event_that_a_run_waits_for() -> None:
    expression = compile_expression(
        "event.data.id == async.data.id && async.name == 'paid'", what="it", variables=BOTH
    )
    event = {"name": "created", "data": {"id": 7}}
    assert expression.matches(event, {"name": "paid", "data": {"id": 7}})
    assert expression.matches(event, {"name": "paid", "data": {"id": 7.0}})
    assert not expression.matches(event, {"name": "paid", "data": {"id": 8}})
    assert not expression.matches(event)


@pytest.mark.parametrize(
    ("source", "place", "reason"),
    [
        ("event.data.n ==", "line 1, column 14", "it ends too early"),
        ("event\n.data\n.n = 3", "line 3, column 4", "unexpected '= 3'"),
        ("event.data.n)", "line 1, column 13", r"unexpected '\)'"),
        ("'abc", "line 1, column 1", r"unexpected \"'abc\""),
        (" ", "line 1, column 1", "it ends too early"),
        ("order.total > 5", "line 1, column 1", "unknown variable 'order'"),
        ("1 + evnt.ts", "line 1, column 5", "unknown variable 'evnt'; did you mean 'event'"),
        ("async.data.n", "line 1, column 1", "unknown variable 'async'"),
        ("event.dat.n", "line 1, column 7", "an event has no field 'dat'; did you mean 'data'"),
        (
            "event.ts > 0 && event['dat'].n",
            "line 1, column 23",
            "an event has no field 'dat'; did you mean 'data'",
        ),
        ("has(event.uid)", "line 1, column 11", "an event has no field 'uid'"),
        ("event.data.list.exists(i, j > 1)", "line 1, column 27", "unknown variable 'j'"),
        ("event.data.list.exists(i)", "line 1, column 17", r"exists\(\) takes a variable and an expression"),
        ("event.data.text.lower()", "line 1, column 17", "unknown function 'lower'"),
        ("sise(event.data.list)", "line 1, column 1", "unknown function 'sise'; did you mean 'size'"),
        ("event.ts == 1 && true true", "line 1, column 23", "unexpected 'true'"),
        (
            "event.data.text.matches('a') || event.data.text.matches('[')",
            "line 1, column 49",
            r"matches\(\) has a wrong",
        ),
        ("1 > 0 && event.data.text.size(1) > 0", "line 1, column 26", "size takes 1 value, got 2"),
        ("has(event.data.n, 1)", "line 1, column 1", "has takes 1 value, got 2"),
        ("'a'.startsWith()", "line 1, column 5", "startsWith takes 2 values, got 1"),
        ("Thing{a: 1}", "line 1, column 1", "messages like"),
        ("!" * 200 + "true", "line 1, column 1", "it is nested too deeply"),
    ],
)
def test_a_wrong_expression_is_refused_with_its_place(source: str, place: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"^the match is no valid CEL \({place}\): {reason}"):
        compile_expression(source, what="the match")


@pytest.mark.parametrize(
    ("source", "got"), [("", "0 characters"), ("1" * 4_097, "4097 characters"), (5, "int")]
)
def test_what_is_no_text_of_reasonable_length_is_refused(source: Any, got: str) -> None:
    with pytest.raises(ConfigError, match=f"must be a CEL expression of 1 to 4096 characters, got {got}"):
        compile_expression(source, what="the match")


def test_long_expressions_are_fine() -> None:
    assert evaluate(" || ".join(f"event.data.n == {n}" for n in range(90, -1, -1))) is True


def test_compiling_again_costs_nothing() -> None:
    assert compile_expression("event.data.n > 7", what="a") is compile_expression(
        "event.data.n > 7", what="b"
    )


def in_a_new_process(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("limit", [700, 1_000, 9_000])
def test_the_users_recursion_limit_stays_as_it_is(limit: int) -> None:
    in_a_new_process(
        f"import sys; sys.setrecursionlimit({limit}); from taskflow.expressions.cel import compile_expression;"
        "assert 'celpy' not in sys.modules; expression = compile_expression('[event.ts].all(i, i > 1)', what='it');"
        f"assert 'celpy' in sys.modules; assert sys.getrecursionlimit() == {limit};"
        f"assert expression.matches({{'ts': 2}}); assert sys.getrecursionlimit() == {limit}"
    )


@pytest.mark.parametrize(
    "source",
    [
        "!" * 110 + "[event.data.yes].exists(i, i || 1u > 1u)",
        "false || " * 118 + "(event.data.yes && 1u == 1u)",
    ],
)
def test_the_deepest_expression_leaves_room_for_its_caller(source: str) -> None:
    """Under Python's default limit of 1,000 frames, 300 of which are in use."""
    in_a_new_process(
        "from taskflow.expressions.cel import compile_expression\n"
        f"expression = compile_expression({source!r}, what='it')\n"
        "assert not expression.is_compiled\n"
        "def nested(depth):\n"
        "    return nested(depth - 1) if depth else expression.evaluate({'data': {'yes': True}})\n"
        "assert nested(300) is True"
    )


def test_celpys_own_parser_is_left_to_who_uses_it() -> None:
    in_a_new_process(
        "from celpy.celparser import CELParser; from taskflow.expressions.cel import compile_expression;"
        "compile_expression('event.ts > 1', what='it'); assert CELParser.CEL_PARSER is None"
    )


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(plain_values)
def test_data_comes_through_unchanged_and_equals_itself(value: Any) -> None:
    event = {"data": {"value": value}}
    assert evaluate("event.data.value", event) == value
    assert evaluate("event.data.value == async.data.value", event, event) is True


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False), st.integers(-9, 9) | st.floats(-9, 9))
def test_numbers_are_ordered_as_in_python(left: float, right: float) -> None:
    event = {"data": {"left": left, "right": right}}
    for operator, expected in (
        ("<", left < right),
        ("<=", left <= right),
        (">", left > right),
        ("==", left == right),
    ):
        assert evaluate(f"event.data.left {operator} event.data.right", event) is expected
