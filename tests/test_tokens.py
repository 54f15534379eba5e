"""Values as text: equal ones have the same, others don't."""

from __future__ import annotations

from typing import Any

import pytest

from taskflow.values.tokens import MAX_CHARS, token_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (-(2**63), -(2.0**63)),
        (2**63, 2.0**63),
        ({"a": [1.0, 2]}, {"a": [1, 2.0]}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
def test_equal_values_have_one_token(one: Any, other: Any) -> None:
    assert token_of(one) == token_of(other)


def test_different_values_have_different_tokens() -> None:
    values = [0, 1, "1", True, None, "", "null", [], {}, [1], "x" * 300, "x" * 301, 1.5, 2.0**64]
    assert len({token_of(value) for value in values}) == len(values)


@pytest.mark.parametrize("value", ["\x1e\x1f\x1d", "x" * 1_000])
def test_a_token_is_short_and_has_no_control_characters(value: str) -> None:
    token = token_of(value)
    assert len(token) <= MAX_CHARS
    assert token.isprintable()
