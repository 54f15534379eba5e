"""Concurrency: at most two reports of one customer execute at a time; another customer's don't wait for them.

taskflow dev -A examples.flow.concurrency
taskflow send report/wanted --data '{"customer": "acme", "count": 6}'
taskflow runs list
"""

from __future__ import annotations

import asyncio

from taskflow import Concurrency, Context, Event, Step, TaskFlow

app = TaskFlow("concurrency-example")


@app.function(trigger="report/wanted")
async def order_reports(ctx: Context[Step], step: Step) -> int:
    """One event a report."""
    data = ctx.event.data
    events = [
        Event("report/ordered", {"customer": data["customer"], "number": n}) for n in range(data["count"])
    ]
    return len(await step.send_event("order", events))


@app.function(trigger="report/ordered", concurrency=Concurrency(2, key="event.data.customer"))
async def write_report(ctx: Context[Step], step: Step) -> str:
    return await step.run("write", write, ctx.event.data["number"])


async def write(number: int) -> str:
    await asyncio.sleep(0.1)
    return f"report {number}"
