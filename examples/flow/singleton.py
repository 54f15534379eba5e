"""Singleton: a stock count that takes longer than its schedule does not overlap; of a user's searches only the newest goes on.

taskflow dev -A examples.flow.singleton
taskflow send search/wanted --data '{"user": "ann", "text": "red shoes"}'
taskflow send search/wanted --data '{"user": "ann", "text": "blue shoes"}'
taskflow runs list
"""

from __future__ import annotations

from taskflow import Context, Singleton, Step, TaskFlow, TriggerCron

app = TaskFlow("singleton-example")


@app.function(trigger=TriggerCron("* * * * *"), singleton=Singleton())
async def count_stock(ctx: Context[Step], step: Step) -> str:
    await step.sleep("count", "90s")
    return "counted"


@app.function(trigger="search/wanted", singleton=Singleton("event.data.user", mode="cancel"))
async def search(ctx: Context[Step], step: Step) -> str:
    await step.sleep("look through many shelves", "10s")
    return f"found {ctx.event.data['text']}"
