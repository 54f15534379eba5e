"""Batch: page views are counted twenty at a time, or what came within five seconds, for each site by itself.

taskflow dev -A examples.flow.batch
taskflow send page/viewed --data '{"site": "docs", "page": "/"}'
taskflow runs list
"""

from __future__ import annotations

from collections import Counter

from taskflow import Batch, Context, Step, TaskFlow

app = TaskFlow("batch-example")


def store(site: str, views: dict[str, int]) -> int:
    return sum(views.values())  # one insert for all of them


@app.function(trigger="page/viewed", batch_events=Batch(20, "5s", key="event.data.site"))
async def count_views(ctx: Context[Step], step: Step) -> int:
    views = Counter(event.data["page"] for event in ctx.events)
    return await step.run("store", store, ctx.event.data["site"], dict(views))
