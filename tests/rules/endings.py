"""What is told of cancelled runs, and what is left of them."""

from __future__ import annotations

from typing import Any

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.run import Run
from taskflow.step import Step
from taskflow.testing import Harness

CANCELLED = "taskflow/function.cancelled"


def watch(app: TaskFlow) -> list[dict[str, Any]]:
    """The data of all events that tell of cancelled runs."""
    told: list[dict[str, Any]] = []

    @app.function(trigger=CANCELLED)
    async def watcher(ctx: Context[Step]) -> None:
        told.append(ctx.event.data)

    return told


async def nothing_is_left_of(harness: Harness, run: Run) -> None:
    """No timer, wait, ready entry or claim is the run's."""
    client, prefix = harness.store.client, harness.store.keys.prefix
    found = []
    for key in await client.call("KEYS", f"{prefix}*"):
        name = key.decode().removeprefix(prefix)
        if name == "timers" or name.startswith("ready:"):
            members = await client.call("ZRANGE", key, 0, -1)
        elif name.startswith("waits:"):
            members = await client.call("SMEMBERS", key)
        elif name.startswith("claims:"):
            members = await client.call("HKEYS", key)
        elif name == "signals":
            members = await client.call("HVALS", key)
        else:
            members = [key] if name.startswith("joins:") else []
        found += [(name, member) for member in members if run.id.encode() in member]
    assert not found
