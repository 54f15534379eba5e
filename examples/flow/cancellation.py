"""Cancellation: who left a full cart is reminded after a day, unless the cart is bought meanwhile or the reminder got stuck.

taskflow dev -A examples.flow.cancellation
taskflow send cart/left --data '{"cart": 7, "user": "ann"}'
taskflow send cart/bought --data '{"cart": 7}'
taskflow runs list
taskflow runs cancel --function cancellation-example/remind --if 'event.data.user == "bob"'
"""

from __future__ import annotations

from typing import Any

from taskflow import Cancel, Context, Step, TaskFlow, Timeouts

app = TaskFlow("cancellation-example")


@app.function(
    trigger="cart/left",
    cancel=Cancel("cart/bought", match="data.cart", timeout="2 days"),
    timeouts=Timeouts(finish="3 days"),
)
async def remind(ctx: Context[Step], step: Step) -> str:
    await step.sleep("leave them time", "1 day")
    return await step.run("send mail", send_mail, ctx.event.data["user"])


def send_mail(user: str) -> str:
    return f"reminded {user}"


@app.function(trigger="taskflow/function.cancelled")
async def count(ctx: Context[Step]) -> Any:
    return ctx.event.data["error"]["message"]
