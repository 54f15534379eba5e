"""What type checkers know of an application with typed events and values. Nothing here runs: see test_types.py."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_type

from taskflow import (
    Batch,
    BlockingStep,
    Cancel,
    Context,
    Event,
    EventModel,
    ReceivedEvent,
    Run,
    Step,
    TaskFlow,
    TriggerEvent,
    upgrade_from,
)
from taskflow.testing import Harness
from taskflow.types import JsonObject

app = TaskFlow("shop", strict_events=True)


class OrderCreated(EventModel, name="shop/order.created", v="2"):
    order_id: str
    cents: int
    at: datetime | None = None

    @upgrade_from("1")
    @classmethod
    def from_v1(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "cents": round(data["total"] * 100)}


class OrderPaid(EventModel, name="shop/order.paid"):
    order_id: str
    method: str


@dataclass
class Receipt:
    order_id: str
    at: datetime


@app.function(
    trigger=[OrderCreated, TriggerEvent(OrderPaid, expression="event.data.method == 'card'")],
    cancel=Cancel(OrderPaid, match="data.order_id"),
    events=[OrderPaid],
    on_invalid="dead_letter",
)
async def fulfil(ctx: Context[Step, OrderCreated | OrderPaid], step: Step) -> Receipt:
    assert_type(ctx.event, ReceivedEvent[OrderCreated | OrderPaid])
    assert_type(ctx.event.data.order_id, str)
    assert_type(ctx.event.headers["tenant"], str)
    if isinstance(ctx.event.data, OrderCreated):
        assert_type(ctx.event.data.at, datetime | None)
    paid = await step.wait_for_event("paid", OrderPaid, timeout="7 days", match="data.order_id")
    assert_type(paid, ReceivedEvent[OrderPaid] | None)
    if paid is not None:
        assert_type(paid.data.method, str)
    either = await step.wait_for_event("either", [OrderPaid, OrderCreated], timeout="1h")
    if either is not None and isinstance(either.data, OrderCreated):
        assert_type(either.data.cents, int)
    named = await step.wait_for_event("named", "shop/other", timeout="1h")
    if named is not None:
        assert_type(named.data, JsonObject)
    assert_type(await step.send_event("tell", OrderPaid(order_id="A-1", method="card")), list[str])
    assert_type(await step.invoke("receipt", function=receipt, data=ctx.event.data), Receipt)
    return await step.run("make", make_receipt, ctx.event.data.order_id)


@app.function(trigger=OrderCreated)
def receipt(ctx: Context[BlockingStep, OrderCreated], step: BlockingStep) -> Receipt:
    assert_type(ctx.event.data.cents, int)
    paid = step.wait_for_event("paid", OrderPaid, timeout="1h")
    assert_type(paid, ReceivedEvent[OrderPaid] | None)
    return step.run("make", make_receipt, "A-1")


@app.function(trigger=OrderPaid, batch_events=Batch(10, "5s"))
async def count(ctx: Context[Step, OrderPaid]) -> int:
    assert_type([event.data.method for event in ctx.events], list[str])
    return len(ctx.events)


@app.function(trigger="shop/plain")
async def plain(ctx: Context[Step]) -> None:
    assert_type(ctx.event, ReceivedEvent)
    assert_type(ctx.event.data, JsonObject)
    assert_type(ctx.step, Step)


def make_receipt(order_id: str) -> Receipt:
    return Receipt(order_id, datetime.now())


async def sends_and_invokes() -> None:
    order = OrderCreated(order_id="A-1", cents=5)
    assert_type(app.send(order, id="order-A-1", headers={"tenant": "acme"}), list[str])
    assert_type(await app.asend([order, Event.of(order, id="x"), Event("shop/plain")]), list[str])
    assert_type(fulfil.send(order), str)
    assert_type(await fulfil.ainvoke(order), Run[Receipt])
    assert_type((await (await app.ainvoke(receipt, order)).aresult()).at, datetime)
    assert_type(count.invoke({"order_id": "A-1", "method": "card"}).result(), int)


async def in_a_test() -> None:
    async with Harness(app) as harness:
        await harness.send(OrderCreated(order_id="A-1", cents=5))
        await harness.run(fulfil, OrderPaid(order_id="A-1", method="card"))


def mistakes(ctx: Context[Step, OrderCreated]) -> None:
    str(ctx.event.data.total)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    OrderCreated(order_id=7, cents=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.function(trigger=Receipt)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    app.function(on_invalid="drop")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    app.send(Receipt("A-1", datetime.now()))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
