"""What a condition makes of a field that is not there: it equals nothing but the literal null, and is in nothing. Rule S2.2."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskflow.errors import ExpressionError
from taskflow.expressions.cel import Expression, compile_expression
from taskflow.expressions.matching import place_wait

EVENT: dict[str, Any] = {
    "name": "a",
    "id": "1",
    "ts": 1,
    "data": {"text": "abc", "none": None, "list": [1], "rows": [{}]},
}


def both(source: str) -> list[Expression]:
    """The expression compiled, and evaluated by the reference only."""
    expression = compile_expression(source, what="it", variables=("event", "async"))
    assert expression.is_compiled
    return [expression, Expression(source, compiled=None, reference=expression.by_reference)]


@pytest.mark.parametrize(
    "source",
    [
        "event.data.archived != true",
        "event.data.archived != false",
        "!(event.data.archived == true)",
        "event.data.coupon == null",
        "null == event.data.coupon",
        "event.data.none == null",
        "event['data'].coupon == null",
        "event.user.plan != 'free'",
        "event.data.deep.deeper.deepest != 1",
        "event.data.text.field != 1",
        "event.data.one != event.data.other",
        "!(event.data.one == event.data.other)",
        "event.data.one != event.data.none",
        "!(event.data.country in ['DE', 'AT'])",
        "!(event.data.country in event.data.list)",
        "!('x' in event.data.tags)",
        "event.data.rows.all(row, row.count == null)",
        "event.data.rows.exists(row, row.count != 1)",
    ],
)
def test_a_condition_over_a_missing_field_holds(source: str) -> None:
    assert [one.holds(EVENT) for one in both(source)] == [True, True]


@pytest.mark.parametrize(
    "source",
    [
        "event.data.archived == true",
        "event.data.coupon != null",
        "event.data.one == event.data.other",
        "event.data.one == event.data.none",
        "event.data.country in ['DE', null]",
        "null in event.data.tags",
    ],
)
def test_a_condition_over_a_missing_field_does_not_hold(source: str) -> None:
    assert [one.holds(EVENT) for one in both(source)] == [False, False]


@pytest.mark.parametrize(
    "source",
    [
        "event.data.total > 100",
        "event.data.total < 100",
        "event.data.yes",
        "!event.data.yes",
        "event.data.total + 1 == 2",
        "event.data.total == 1 / 0",
        "event.data.name.startsWith('a')",
        "size(event.data.lines) == 0",
        "(event.data.one ? 1 : 2) == 1",
        "event.data.lines.all(line, true)",
    ],
)
def test_all_else_over_a_missing_field_is_an_error(source: str) -> None:
    for one in both(source):
        with pytest.raises(ExpressionError):
            one.holds(EVENT)
        assert one.matches(EVENT) is False


def test_has_tells_a_missing_field_from_null() -> None:
    for one in both("has(event.data.none) && !has(event.data.coupon)"):
        assert one.holds(EVENT)


def test_a_value_that_is_no_bool_is_no_condition() -> None:
    with pytest.raises(ExpressionError, match="neither true nor false"):
        compile_expression("event.data.list", what="it").holds(EVENT)


values: st.SearchStrategy[Any] = st.sampled_from([None, True, "a", 1, 1.0, [], {}])
events = st.dictionaries(st.sampled_from(["a", "b"]), values).map(lambda data: {"name": "x", "data": data})


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from(
        ["async.data.a == event.data.a", "async.data.a == null", "event.data.a == async.data.b", "async.data.a == 'a'",
         "async.data.a == null && async.data.b == event.data.b", "async.data.a == 1"]
    ),
    events,
    events,
)  # fmt: skip
def test_the_index_finds_a_wait_exactly_when_its_condition_holds(
    source: str, run_event: dict[str, Any], event: dict[str, Any]
) -> None:
    plan = place_wait(["x"], None, source, event=run_event)
    expression = compile_expression(source, what="it", variables=("event", "async"))
    assert plan.is_met_by(event, run_event=run_event) is expression.matches(run_event, event)
