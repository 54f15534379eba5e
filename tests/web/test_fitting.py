"""Data that does not fit the JSON Schema of its event is told without the code; what a model takes is not refused. Rule S11.2."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import httpx
import pytest
from pydantic import BaseModel, Field, ValidationError

from taskflow import Context, EventModel, Step, TaskFlow
from taskflow.connections import Connections
from taskflow.testing import Harness
from taskflow.web.catalogue.fitting import problems_of
from taskflow.web.site import SiteOptions, make_site
from tests.web.conftest import BASE


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


class Line(BaseModel):
    sku: str = Field(min_length=2, max_length=5)
    count: int = Field(ge=1, lt=10)
    size: Size | None = None


class Order(BaseModel):
    model_config = {"extra": "forbid"}
    id: int
    lines: list[Line] = Field(min_length=1, max_length=3)
    paid: bool = False
    total: float = 0.0
    price: Decimal = Decimal(0)
    at: datetime | None = None
    key: UUID | None = None
    how: Literal["card", "cash"] = "card"
    notes: dict[str, int] = {}
    pair: tuple[int, str] = (1, "x")
    tags: set[str] = set()
    who: Annotated[str | int, Field(union_mode="left_to_right")] = "ann"
    parent: Order | None = None


LINE = {"sku": "A7", "count": 1}
GOOD: dict[str, Any] = {"id": 7, "lines": [LINE]}
SCHEMA = Order.model_json_schema()


@pytest.mark.parametrize(
    "more",
    [
        {}, {"id": "7"}, {"id": 7.0}, {"paid": "yes"}, {"paid": 1}, {"total": "1.5"}, {"total": 3}, {"price": "9.99"},
        {"price": 9}, {"at": "2030-01-31T12:00:00Z"}, {"at": None}, {"key": "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"},
        {"how": "cash"}, {"notes": {"a": 1, "b": "2"}}, {"pair": [2, "y"]}, {"tags": ["a", "a"]}, {"who": 7}, {"parent": GOOD},
        {"lines": [LINE, {**LINE, "size": "l"}, {**LINE, "size": None, "more": 1}]},
    ],
    ids=str,
)  # fmt: skip
def test_what_the_model_takes_fits(more: dict[str, Any]) -> None:
    Order.model_validate({**GOOD, **more})
    assert problems_of({**GOOD, **more}, SCHEMA) == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"id": "x"}, "data.id: a whole number is expected, got 'x'"),
        ({"id": 7.5}, "data.id: a whole number is expected, got 7.5"),
        ({"id": None}, "data.id: a whole number is expected, got None"),
        ({"lines": []}, "data.lines: at least 1 items are expected, got 0"),
        ({"lines": [LINE] * 4}, "data.lines: at most 3 items are expected, got 4"),
        ({"lines": {}}, "data.lines: a list is expected, got {}"),
        ({"lines": [{"count": 1}]}, "data.lines.0.sku: is missing"),
        ({"lines": [{**LINE, "sku": "A"}]}, "data.lines.0.sku: at least 2 characters are expected, got 1"),
        (
            {"lines": [{**LINE, "sku": "ABCDEF"}]},
            "data.lines.0.sku: at most 5 characters are expected, got 6",
        ),
        ({"lines": [{**LINE, "sku": 12}]}, "data.lines.0.sku: a text is expected, got 12"),
        ({"lines": [{**LINE, "count": 0}]}, "data.lines.0.count: a number of at least 1 is expected, got 0"),
        ({"lines": [{**LINE, "count": "10"}]}, "data.lines.0.count: a number below 10 is expected, got '10'"),
        ({"lines": [{**LINE, "size": "m"}]}, "data.lines.0.size: one of 's', 'l' is expected, got 'm'"),
        ({"paid": "perhaps"}, "data.paid: true or false is expected, got 'perhaps'"),
        ({"how": "gold"}, "data.how: one of 'card', 'cash' is expected, got 'gold'"),
        ({"notes": {"a": "b"}}, "data.notes.a: a whole number is expected, got 'b'"),
        ({"pair": ["a", "b"]}, "data.pair.0: a whole number is expected, got 'a'"),
        ({"who": []}, "data.who: a text is expected, got []"),
        ({"parent": {"lines": [LINE]}}, "data.parent.id: is missing"),
        ({"other": 1}, "data.other: is not expected"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told_with_its_path(more: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError):
        Order.model_validate({**GOOD, **more})
    assert problems_of({**GOOD, **more}, SCHEMA) == [told]


@pytest.mark.parametrize(
    "schema",
    [
        {}, {"$ref": "#/$defs/Gone"}, {"$ref": "#/$defs/Loop", "$defs": {"Loop": {"$ref": "#/$defs/Loop"}}}, {"type": ["object"]},
        {"properties": {"id": True}}, {"frobnicate": 7}, {"$ref": "http://elsewhere.example/schema"},
    ],
    ids=str,
)  # fmt: skip
def test_a_schema_that_is_not_understood_refuses_nothing(schema: dict[str, Any]) -> None:
    assert problems_of(GOOD, schema) == []


def test_deep_data_and_many_problems_end() -> None:
    deep = GOOD
    for _ in range(200):
        deep = {**GOOD, "parent": deep}
    assert problems_of(deep, SCHEMA) == []
    assert len(problems_of({**GOOD, "notes": {str(n): "x" for n in range(1_000)}}, SCHEMA)) == 10


async def test_the_event_api_refuses_what_does_not_fit_without_the_code_of_the_app(
    app: TaskFlow, link: Connections
) -> None:
    class Created(EventModel, name="shop/created", v="2"):
        sku: str
        count: int

    @app.function(trigger=Created)
    async def take(ctx: Context[Step]) -> None: ...

    async with Harness(app) as harness:
        transport = httpx.ASGITransport(make_site(link, SiteOptions(is_dev=True)))
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as web:
            good = {"name": "shop/created", "data": {"sku": "A7", "count": "3"}}
            wrong = {"name": "shop/created", "data": {"sku": "A7", "count": "many"}}
            refused = await web.post("/e/dev", json=[good, wrong])
            assert (refused.status_code, refused.json()["ids"]) == (400, [])
            assert refused.json()["errors"] == [
                {
                    "index": 1,
                    "message": "event 'shop/created' does not fit its type: data.count: a whole number is expected, got 'many'",
                }
            ]
            refused = await web.post("/api/v1/events", json=wrong)
            assert (refused.status_code, refused.json()["code"]) == (400, "invalid_event")
            for each in (good, {**wrong, "v": "1"}, {"name": "shop/other", "data": {"count": "many"}}):
                assert (await web.post("/e/dev", json=each)).status_code == 200, "another version, or no type"
        await harness.settled()
