"""Priority: with one report at a time, those of paying customers go ahead of all that were wanted in the five minutes before.

taskflow dev -A examples.flow.priority
taskflow send report/wanted --data '{"customer": "acme", "plan": "paid"}'
taskflow runs list
"""

from __future__ import annotations

import asyncio

from taskflow import Context, Priority, Step, TaskFlow

app = TaskFlow("priority-example")


@app.function(
    trigger="report/wanted",
    concurrency=1,
    priority=Priority('event.data.plan == "paid" ? 300 : 0'),
)
async def report(ctx: Context[Step], step: Step) -> str:
    return await step.run("write", write, ctx.event.data["customer"])


async def write(customer: str) -> str:
    await asyncio.sleep(0.05)
    return f"report of {customer}"
