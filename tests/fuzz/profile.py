"""How all fuzzing is done: the same examples each time, so that a failure is no chance; and what it is fed with."""

from __future__ import annotations

import os
import string
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

CHECKS = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large)


FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))
"""FUZZ_FACTOR=20 looks for new examples, and at 20 times as many."""


def examples(count: int) -> settings:
    """The same `count` examples each time."""
    return settings(
        max_examples=count * FACTOR,
        derandomize=FACTOR == 1,
        deadline=None,
        database=None,
        suppress_health_check=CHECKS,
    )


# Text as an attacker or a bug makes it: lone surrogates, controls, and the signs that parsers split at.
texts = st.one_of(
    st.text(max_size=40),
    st.text(st.characters(categories=("Cs", "Cc", "Cf", "Zl", "Lu", "Nd")), max_size=20),
    st.text(string.punctuation + " 019aZ\n\t\0", max_size=30),
    st.sampled_from(
        ["", " ", "\0", "\ud800", "1" * 5_000, "x" * 5_000, "NaN", "-0", "1e999", "٣", "²", "½", "İ"]
    ),
)
numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from(
        [0, -1, 1 << 31, 1 << 53, (1 << 63) - 1, 1 << 63, 1 << 64, -(1 << 63) - 1, 10**30, True, False]
    ),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)
"""Like JSON, but with what JSON can't hold: NaN, lone surrogates, huge integers."""

json_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(1 << 63), (1 << 64) - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        json_texts,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(json_texts, inner, max_size=4)),
    max_leaves=12,
)
json_objects = st.dictionaries(json_texts, json_values, max_size=5)


class Thing:
    """A type that no parser expects."""


odd_values: st.SearchStrategy[Any] = st.one_of(
    values,
    st.binary(max_size=20),
    st.timedeltas(),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.just(object()),
    st.just(Thing),
    st.just(len),
    st.sets(st.integers(), max_size=3),
    st.tuples(numbers, texts),
    st.decimals(),
)
"""What Python code may pass by mistake."""


@st.composite
def damaged(draw: st.DrawFn, whole: Any) -> Any:
    """A copy of a JSON value in which a few places are replaced, removed or added to."""
    result = copied(whole)
    for _ in range(draw(st.integers(1, 3))):
        holder, place = pick_place(draw, result)
        if holder is None:
            return draw(values)
        how = draw(st.sampled_from(["replace", "remove", "add"]))
        if how == "remove":
            del holder[place]
        elif how == "replace" or isinstance(holder, list):
            holder[place] = draw(values)
        else:
            holder[draw(texts)] = draw(values)
    return result


def copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [copied(item) for item in value]
    return value


def pick_place(draw: st.DrawFn, whole: Any) -> tuple[Any, Any]:
    """A container somewhere in the value, and a key or index there; (None, None) when there is none."""
    found = list(places_in(whole))
    return draw(st.sampled_from(found)) if found else (None, None)


def places_in(whole: Any) -> Iterator[tuple[Any, Any]]:
    """All places of a JSON value, each as its container and the key or index there."""
    pending = [whole]
    for holder in pending:  # grows while it is walked
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            yield holder, key
            if isinstance(holder[key], (dict, list)):
                pending.append(holder[key])
