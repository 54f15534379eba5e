"""TypeScript types of JSON Schemas: what a person would have written for the model."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Generic, Literal, TypeVar

import pytest
from pydantic import BaseModel, Field

from taskflow.values.typescript import Named, declarations, type_text

T = TypeVar("T")


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


class Item(BaseModel):
    sku: str
    count: int = Field(1, description="How many */ of them.")


class Page(BaseModel, Generic[T]):
    items: list[T]


class Node(BaseModel):
    children: list[Node]


class Order(BaseModel):
    """An order.

    As it was made.
    """

    order_id: str
    items: list[Item]
    first: Page[Item]
    size: Size | None = None
    kind: Literal["a", 2]
    at: datetime
    total: Decimal
    pair: tuple[int, str]
    scores: dict[str, float]
    either: list[int | None] = []
    anything: Any = None
    by_alias: bool = Field(alias="by-alias")


def test_a_model_is_an_interface_and_what_it_is_made_of_are_others() -> None:
    text = declarations([Named("shop/order", Order.model_json_schema())], table="Events")
    assert (
        text
        == """\
export interface Item {
  sku: string;
  /** How many * / of them. */
  count?: number;
}

export interface Page_Item_ {
  items: Item[];
}

export type Size = "s" | "l";

/**
 * An order.
 *
 * As it was made.
 */
export interface Order {
  order_id: string;
  items: Item[];
  first: Page_Item_;
  size?: Size | null;
  kind: "a" | 2;
  at: string;
  total: number | string;
  pair: [number, string];
  scores: Record<string, number>;
  either?: (number | null)[];
  anything?: unknown;
  "by-alias": boolean;
}

export interface Events {
  "shop/order": Order;
}
"""
    )


def test_types_of_one_name_that_differ_are_numbered() -> None:
    def order(item: dict[str, Any]) -> dict[str, Any]:
        return {
            "title": "Order", "type": "object", "properties": {"item": {"$ref": "#/$defs/Item"}}, "$defs": {"Item": item},
        }  # fmt: skip

    text, number = {"type": "string"}, {"type": "integer"}
    told = declarations(
        [Named("a", order(text)), Named("b", order(text)), Named("a", order(number))], table="Events"
    )
    assert (
        told
        == """\
export type Item = string;

export interface Order {
  item?: Item;
}

export type Item2 = number;

export interface Order2 {
  item?: Item2;
}

export interface Events {
  "a": Order | Order2;
  "b": Order;
}
"""
    )


def test_a_model_that_contains_itself_is_named_twice() -> None:
    told = declarations([Named("tree/grown", Node.model_json_schema())], table="Events")
    assert "export interface Node {\n  children: Node[];\n}\n" in told
    assert "export type TreeGrown = Node;" in told


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (True, "unknown"),
        (False, "never"),
        ({}, "unknown"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"type": "object"}, "Record<string, unknown>"),
        ({"type": "object", "additionalProperties": False}, "Record<string, unknown>"),
        ({"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}, "{ a: null }"),
        ({"type": "array"}, "unknown[]"),
        ({"allOf": [{"$ref": "#/$defs/A"}, {"anyOf": [{"type": "string"}, {"const": 1}]}]}, "A & (string | 1)"),
        ({"enum": []}, "never"),
        ({"$ref": "#/$defs/3d-Point"}, "T3dPoint"),
        ({"type": "what"}, "unknown"),
    ],
)  # fmt: skip
def test_what_a_schema_may_say_has_a_type(schema: Any, text: str) -> None:
    assert type_text(schema) == text
