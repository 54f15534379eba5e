"""Typed events: a payment that is checked where it is sent, and old versions of it that are still read.

    pip install 'taskflow-durable[pydantic]'
    taskflow dev -A examples.typed

    taskflow send shop/payment --data '{"order_id": "A-1", "cents": 1250}' -A examples.typed
    taskflow send shop/payment --data '{"order_id": "A-1", "cents": "a lot"}' -A examples.typed

The second one is refused before anything is sent. Version 1 of the payment had euros; `upgrade_from` reads it:

    taskflow send shop/payment --data '{"order_id": "A-1", "euros": 12.5}' --event-version 1 -A examples.typed
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from taskflow import Context, EventModel, Step, TaskFlow, upgrade_from

app = TaskFlow("shop")


class Payment(EventModel, name="shop/payment", v="2"):
    order_id: str
    cents: int = Field(gt=0)

    @upgrade_from("1")
    @classmethod
    def from_euros(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {"order_id": data["order_id"], "cents": round(data["euros"] * 100)}


class Receipt(EventModel, name="shop/receipt"):
    order_id: str
    text: str


@app.function(trigger=Payment, events=[Receipt], on_invalid="dead_letter")
async def book(ctx: Context[Step, Payment], step: Step) -> str:
    payment = ctx.event.data
    text = await step.run("book", booked, payment)
    await step.send_event("tell", Receipt(order_id=payment.order_id, text=text))
    return text


@app.function(trigger=Receipt)
async def print_receipt(ctx: Context[Step, Receipt]) -> None:
    ctx.logger.info("%s: %s", ctx.event.data.order_id, ctx.event.data.text)


def booked(payment: Payment) -> str:
    return f"{payment.cents / 100:.2f} EUR for {payment.order_id}"
