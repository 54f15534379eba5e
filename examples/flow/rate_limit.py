"""Rate limit: a document is indexed at most once in ten minutes; changes in between start nothing.

taskflow dev -A examples.flow.rate_limit
taskflow send doc/changed --data '{"doc": "readme"}'
taskflow runs list --status skipped
"""

from __future__ import annotations

from taskflow import Context, RateLimit, Step, TaskFlow

app = TaskFlow("rate-limit-example")


@app.function(trigger="doc/changed", rate_limit=RateLimit(1, "10m", key="event.data.doc"))
async def index(ctx: Context[Step]) -> str:
    return f"indexed {ctx.event.data['doc']}"
