"""Debounce: a document is published with its last text, once nobody has edited it for five seconds, or after a minute.

taskflow dev -A examples.flow.debounce
taskflow send doc/edited --data '{"doc": "readme", "text": "Hello"}'
taskflow send doc/edited --data '{"doc": "readme", "text": "Hello, world"}'
taskflow runs list
"""

from __future__ import annotations

from taskflow import Context, Debounce, Step, TaskFlow

app = TaskFlow("debounce-example")


@app.function(trigger="doc/edited", debounce=Debounce("5s", key="event.data.doc", timeout="1m"))
async def publish(ctx: Context[Step]) -> str:
    return f"published {ctx.event.data['doc']}: {ctx.event.data['text']}"
