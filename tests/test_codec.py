import dataclasses
import enum
import json
import math
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.errors import SerializationError
from taskflow.values.json import MAX_INT, MIN_INT, from_json, pack, to_json, unpack

WHAT = "the output of step 'charge'"


class Colour(enum.Enum):
    RED = "red"
    TWO = 2


class Size(enum.StrEnum):
    BIG = "big"


class Text(str):
    pass


class Real(float):
    pass


Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Line:
    sku: str
    price: Decimal
    _note: str = "kept"


@dataclasses.dataclass(slots=True)
class Order:
    lines: list[Line]


class Customer(pydantic.BaseModel):
    id: UUID
    since: date
    order: Line


class Broken(pydantic.BaseModel):
    @pydantic.model_serializer
    def dump(self) -> dict[str, Any]:
        raise RuntimeError("no way")


SOME_ID = UUID(int=1)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(MIN_INT, MAX_INT)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: (
        st.lists(children) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), children)
    ),
    max_leaves=15,
)


@given(json_values)
def test_json_survives_the_codec(value: Any) -> None:
    encoded = to_json(value, what=WHAT)
    assert from_json(encoded) == value
    assert json.loads(encoded) == value
    assert unpack(pack(value)) == value


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((1, (2, None)), [1, [2, None]]),
        (Point(1, [2]), [1, [2]]),
        (OrderedDict(a=1), {"a": 1}),
        (datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2030-01-02T03:04:05.000006+00:00"),
        (datetime(2030, 1, 2), "2030-01-02T00:00:00"),
        (date(2030, 1, 2), "2030-01-02"),
        (time(3, 4), "03:04:00"),
        (time(3, 4, tzinfo=UTC), "03:04:00+00:00"),
        (SOME_ID, str(SOME_ID)),
        (Decimal("1.10"), "1.10"),
        (Colour.RED, "red"),
        (Colour.TWO, 2),
        (Size.BIG, "big"),
        (Text("text"), "text"),
        (Real(1.5), 1.5),
        ({Size.BIG: 1, Text("t"): None}, {"big": 1, "t": None}),
        (Order([Line("a", Decimal(1))]), {"lines": [{"sku": "a", "price": "1", "_note": "kept"}]}),
        (
            Customer(id=SOME_ID, since=date(2030, 1, 2), order=Line("a", Decimal(1))),
            {"id": str(SOME_ID), "since": "2030-01-02", "order": {"sku": "a", "price": "1", "_note": "kept"}},
        ),
    ],
)
def test_the_types_of_s2_6_are_converted(value: object, plain: object) -> None:
    assert from_json(to_json(value, what=WHAT)) == plain
    # Beside a null and beside what orjson refuses, the slower way is taken; it must agree.
    assert from_json(to_json([value, None, Size.BIG, {Size.BIG: 1}], what=WHAT)) == [
        plain,
        None,
        "big",
        {"big": 1},
    ]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({1, 2}, r"\$ is a set; turn it into a sorted list"),
        ({"a": [1, {"b": b"x"}]}, r"\$\.a\[1\]\.b is a bytes; turn it into text"),
        ([None, object()], r"\$\[1\] is a object; return only JSON\. Allowed are dict"),
        ({"a": {1: 2}}, r"\$\.a is a dict with a key of type int; JSON has only str keys"),
        ({Colour.RED: 2}, r"\$ is a dict with a key of type Colour"),
        ([2**64], r"\$\[0\] is an int beyond 64 bits; pass it as a str"),
        (-(2**63) - 1, r"\$ is an int beyond 64 bits"),
        ({"a": math.nan}, r"\$\.a is nan, which JSON can't express"),
        ({"null": [None, Real("inf")]}, r"\$\.null\[1\] is inf"),
        (Order([Line("a", math.inf)]), r"\$\.lines\[0\]\.price is inf"),  # type: ignore[arg-type]
        ("\ud800", r"\$ is a str with lone surrogates"),
        ({"\ud800": 1}, r"\$ is a str with lone surrogates"),
        ([Line], r"\$\[0\] is a type; return only JSON"),
        ([Customer], r"\$\[0\] is a ModelMetaclass"),
        (Broken(), r"\$ is a Broken that can't be dumped: .*no way"),
        ({"f": print}, r"\$\.f is a builtin_function_or_method"),
    ],
)
def test_anything_else_is_refused_with_its_place_and_type(value: object, reason: str) -> None:
    with pytest.raises(SerializationError, match=rf"^the output of step 'charge' has no JSON form: {reason}"):
        to_json(value, what=WHAT)


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(SerializationError, match="nested more than 200 levels deep, or contains itself"):
        to_json(loop, what=WHAT)


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(SerializationError, match="expected JSON, got 3 bytes"):
        from_json(b"{a}")


def test_msgpack_gives_utf_8_bytes_back_as_text_since_lua_knows_no_bin_type() -> None:
    value = {"text": "ä", "json": b'"\xc3\xa4"', "n": [1, None, 2.5, True], "big": MAX_INT}
    assert unpack(pack(value)) == value | {"json": '"ä"'}
