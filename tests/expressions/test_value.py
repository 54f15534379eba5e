"""Expressions as keys of flow control. Rule S7."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from taskflow.expressions.cel import compile_expression


@pytest.mark.parametrize(
    ("source", "data", "value"),
    [
        ("event.data.customer", {"customer": "acme"}, "acme"),
        ("event.data.customer", {"customer": 7}, 7),
        ("event.data.customer", {"customer": False}, False),
        ("event.data.customer", {"customer": ""}, ""),
        ("event.data.customer", {"customer": ["a", {"b": None}]}, ["a", {"b": None}]),
        ("event.data.a + '/' + event.data.b", {"a": "x", "b": "y"}, "x/y"),
        ("event.data.list.map(i, i * 2)", {"list": [1, 2]}, [2, 4]),
    ],
)
def test_a_key_is_the_value_of_the_expression(source: str, data: dict[str, Any], value: Any) -> None:
    got = compile_expression(source, what="it").value({"data": data})
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("source", "data", "reason"),
    [
        ("event.data.no_key_1", {}, "there is no event.data.no_key_1"),
        ("event.data.no_key_2", {"no_key_2": None}, "its value is null"),
        ("event.data.no_key_3 + 1", {"no_key_3": "x"}, "there is no sum of str and int"),
        ("event.data.no_key_4 / 0", {"no_key_4": 1}, "division"),
        ("timestamp(event.data.no_key_5)", {"no_key_5": "2030-01-01T00:00:00Z"}, "is no JSON"),
        ("[b'a', event.data.no_key_6]", {"no_key_6": 1}, "is no JSON"),
        ("{1: event.data.no_key_7}", {"no_key_7": 1}, "is no JSON"),
        ("event.data.no_key_8.map(i, i / 0)", {"no_key_8": [1]}, "no_key_8"),
    ],
)
def test_what_gives_no_key_is_the_empty_key_and_is_logged_once(
    source: str, data: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    expression = compile_expression(source, what="it")
    with caplog.at_level(logging.WARNING, logger="taskflow.expressions"):
        for _ in range(3):
            assert expression.value({"data": data}) == ""
            assert compile_expression(source, what="it").value({"data": {}}) == ""
    (record,) = caplog.records
    assert record.name == "taskflow.expressions"
    assert record.levelno == logging.WARNING
    assert source in record.getMessage()
    assert reason in record.getMessage()


def test_a_key_may_look_at_the_event_that_a_run_waits_for() -> None:
    expression = compile_expression("async.data.id", what="it", variables=("event", "async"))
    assert expression.value({"data": {}}, {"data": {"id": 7}}) == 7
