"""Idempotency: an order is shipped once, however many events say that it is paid.

taskflow dev -A examples.flow.idempotency
taskflow send order/paid --data '{"order": 7, "by": "card"}'
taskflow send order/paid --data '{"order": 7, "by": "the night job"}'
taskflow runs list
"""

from __future__ import annotations

from taskflow import Context, Step, TaskFlow

app = TaskFlow("idempotency-example")


@app.function(trigger="order/paid", idempotency="event.data.order")
async def ship(ctx: Context[Step]) -> str:
    return f"shipped {ctx.event.data['order']}, paid by {ctx.event.data['by']}"
