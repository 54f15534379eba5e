"""The equality of a condition by which a wait is indexed; an index must never lose a match."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskflow.expressions.cel import compile_expression
from taskflow.expressions.equalities import Equality, split_equality


@pytest.mark.parametrize(
    ("source", "path", "other_path", "residue"),
    [
        ("async.data.x == event.data.x", "data.x", "data.x", None),
        ("event.data.x == async.data.x", "data.x", "data.x", None),
        ("event.data.a.b == async.user.id", "user.id", "data.a.b", None),
        ("async['data'][\"x\"] == event.data['x']", "data.x", "data.x", None),
        ("(async.data.x) == ((event.data.y))", "data.x", "data.y", None),
        ("async.data.x == event.data.x && async.data.n > 1", "data.x", "data.x", "async.data.n > 1"),
        ("async.data.n > 1 && async.data.x == event.data.x", "data.x", "data.x", "async.data.n > 1"),
        (
            "event.id == '' && (async.data.x == event.data.x && async.ts > 5) && true",
            "data.x",
            "data.x",
            "event.id == '' && async.ts > 5 && true",
        ),
        (
            "async.data.s == 'paid' && async.data.x == event.data.x",
            "data.x",
            "data.x",
            "async.data.s == 'paid'",
        ),
        (
            "((async.data.a || async.data.b)) && async.data.x == event.data.x",
            "data.x",
            "data.x",
            "((async.data.a || async.data.b))",
        ),
        ("async.ts > // since\n 5 && async.id == event.id // done", "id", "id", "async.ts > // since\n 5"),
    ],
)
def test_an_equality_of_two_fields_is_found(
    source: str, path: str, other_path: str, residue: str | None
) -> None:
    assert split_equality(source) == Equality(path, other_path, None, residue)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("'paid'", "paid"),
        ("r'a\\b'", "a\\b"),
        ("'\\u00e4\\n'", "ä\n"),
        ("7", 7),
        ("-7", -7),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("true", True),
        ("false", False),
    ],
)
def test_an_equality_with_a_literal_is_found(written: str, value: Any) -> None:
    for source in (f"async.data.x == {written}", f"{written} == async.data.x"):
        found = split_equality(source + " && event.ts > 5")
        assert found == Equality("data.x", None, value, "event.ts > 5")
        assert type(found.literal) is type(value)


@pytest.mark.parametrize(
    "source",
    [
        "async.data.x == event.data.x || true",
        "!(async.data.x == event.data.x)",
        "(async.data.x == event.data.x) == false",
        "event.data.y ? async.data.x == event.data.x : true",
        "(async.data.x == event.data.x && true) || event.data.y",
        "async.data.x != event.data.x",
        "async.data.x in [event.data.x]",
        "async.data.x == async.data.y",
        "event.data.x == event.data.y",
        "event.data.x == 5",
        "async.data.x == event.data.x + 1",
        "async.data.x + 1 == event.data.x",
        "async.data.list[0] == event.data.x",
        "async.data['a.b'] == event.data.x",
        "async.data[event.data.k] == 'x'",
        "async == event",
        "async.data.x == [1]",
        "async.data.x == {'a': 1}",
        "async.data.x == 1u",
        "async.data.x == b'x'",
        "async.data.x == 9223372036854775807",
        "async.data.x == 1e300",
        "async.data.x == 1e999",
        "async.data.x == null",
        "async.data.list.exists(async, async.data.x == event.data.x)",
        "async.data.x",
        "true",
    ],
)
def test_what_an_index_could_not_answer_is_left_whole(source: str) -> None:
    assert split_equality(source) is None


def test_a_number_that_another_type_would_write_differently_stays_in_the_residue() -> None:
    """A double of 2**63 and an int of 2**63 are equal, and an index may hold either text."""
    found = split_equality("async.data.x == 9007199254740993 && async.data.y == 1")
    assert found == Equality("data.y", None, 1, "async.data.x == 9007199254740993")


values = st.sampled_from([None, True, False, 0, 1, 1.0, 2, "a", "1", [1], {"k": 1}])
parts = st.sampled_from(
    [
        "async.data.x == event.data.x", "event.data.y == async.data.x", "async.data.y == 1", "'a' == async.data.x",
        "async.data.x == null", "true", "false", "event.data.x", "async.data.y", "event.data.y > 0", "5",
        "1 / 0 == 1", "async.data.missing == 1", "async.data.missing == event.data.missing", "(async.data.x || event.data.y)",
        "async.data.y == true", "(async.data.x == event.data.x && event.data.y == 1)", "(true ? event.data.x : false)",
    ]
)  # fmt: skip
data = st.dictionaries(st.sampled_from(["x", "y"]), values, max_size=2)


def value_at(event: dict[str, Any], path: str) -> list[Any]:
    """The value in a list; [] where there is none."""
    value: Any = event
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return []
        value = value[name]
    return [value]


def is_equal(left: Any, right: Any) -> bool:
    both = {"data": {"left": left, "right": right}}
    return compile_expression("event.data.left == event.data.right", what="it").matches(both)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(parts, min_size=1, max_size=4), data, data)
def test_the_equality_and_the_residue_say_what_the_condition_says(
    chosen: list[str], ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    source, event, incoming = " && ".join(chosen), {"data": ours}, {"data": theirs}
    found = split_equality(source)
    if found is None:
        return
    left = value_at(incoming, found.path)
    right = [found.literal] if found.other_path is None else value_at(event, found.other_path)
    split = bool(left and right and is_equal(left[0], right[0]))
    if found.residue is not None:
        residue = compile_expression(found.residue, what="it", variables=("event", "async"))
        split = split and residue.matches(event, incoming)
    whole = compile_expression(source, what="it", variables=("event", "async"))
    assert split is whole.matches(event, incoming)
