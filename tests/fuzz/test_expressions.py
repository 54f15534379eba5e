"""CEL of any text, over events of any content: only ConfigError when it is read, only ExpressionError when it is evaluated."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskflow.errors import ConfigError, ExpressionError, NonRetriableError
from taskflow.expressions.cel import compile_expression
from taskflow.steps.wait_for_event import plan_wait
from tests.fuzz.profile import examples, json_objects, json_values, odd_values, texts

words = st.sampled_from(
    ["event", "async", "event.data", "event.data.x", "async.data.x", "event['data']", "event.nope", "nope", "1", "-1", "1u",
     "1.5", "1e999", "9223372036854775808", "'x'", '"', "b'x'", "r'\\'", "null", "true", "in", "has(event.data.x)", "has(1)",
     "size(", ")", "(", "[", "]", "{", "}", "[1,2]", "{'a':1}", "?", ":", "+", "-", "*", "/", "%", "==", "!=", "<", "&&", "||",
     "!", ".", ",", "event.data.all(i, i > 0)", "event.data.map(", "matches('(a+)+$')", ".startsWith('a')", "timestamp('x')",
     "duration('1h')", "int('x')", "string(event)", "dyn(1)", "type(1)", "//", "#", "\n", "\0", "google.protobuf.Any{}",
     "__class__", "event.__class__", "for", "1" * 500, "(" * 200, "!" * 300, "[" * 100]
)  # fmt: skip
expressions = st.one_of(
    texts,
    st.lists(words, min_size=1, max_size=7).map(" ".join),
    st.lists(words, min_size=1, max_size=5).map("".join),
)


@examples(300)
@given(expressions, json_objects, json_objects)
def test_any_text_is_an_expression_or_refused_and_any_event_gives_a_value_or_the_documented_error(
    source: str, data: dict[str, Any], other: dict[str, Any]
) -> None:
    try:
        expression = compile_expression(source, what="it", variables=("event", "async"))
    except ConfigError:
        return
    event, async_event = {"name": "a", "data": data, "ts": 1}, {"name": "b", "data": other, "ts": 2}
    with contextlib.suppress(ExpressionError):
        expression.evaluate(event, async_event)
    assert expression.matches(event, async_event) in (True, False)
    expression.value(event, async_event)


WORKING = tuple(
    compile_expression(source, what="it")
    for source in (
        "event.data.x > 1",
        "event.data.x == event.data.y",
        "event.data.x + event.data.y",
        "event.data.x.startsWith('a') || size(event.data.y) > 1",
        "event.data.x in event.data.y",
        "event.data.x ? event.data.y : 1",
        "event.data.x.matches(event.data.y)",
        "event.data.x.all(i, i == event.data.y)",
        "event.data.x[event.data.y]",
        "int(event.data.x) / int(event.data.y)",
        "timestamp(event.data.x) < timestamp(event.data.y)",
        "string(event.data.x) + string(event.data.y)",
        "duration(event.data.x) + duration(event.data.y)",
    )
)


@examples(150)
@given(json_values, json_values)
def test_any_values_give_a_value_or_the_documented_error(x: Any, y: Any) -> None:
    event = {"name": "a", "data": {"x": x, "y": y}, "ts": 1}
    for expression in WORKING:
        with contextlib.suppress(ExpressionError):
            expression.evaluate(event)
        assert expression.matches(event) in (True, False)
        expression.value(event)


@examples(200)
@given(
    st.lists(st.one_of(texts, st.just("shop/paid")), max_size=3),
    st.one_of(st.none(), texts, st.just("data.id")),
    st.one_of(st.none(), expressions),
    json_objects,
)
def test_a_wait_of_any_arguments_is_planned_or_refused(
    events: list[str], match: str | None, if_exp: str | None, data: dict[str, Any]
) -> None:
    with contextlib.suppress(ConfigError, NonRetriableError):
        plan_wait("wait", events, match, if_exp, event={"name": "a", "data": data, "ts": 1})


@examples(100)
@given(odd_values)
def test_what_is_no_text_is_no_expression(value: Any) -> None:
    with contextlib.suppress(ConfigError):
        compile_expression(value, what="it")
