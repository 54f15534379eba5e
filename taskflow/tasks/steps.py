"""The step tools of the durable function that executes, for a task that is called in it: `await add.step(2, 3)`. Rule S15.1."""

from __future__ import annotations

import asyncio

from taskflow.engine.tasks.suspension import TaskTree
from taskflow.engine.tasks.tagging import current_tree
from taskflow.step import Step
from taskflow.steps.tools import Tools


def step_here(what: str) -> Step:
    """The tools of the `async def` handler that calls this. Raises RuntimeError where there is none."""
    tree = current_tree.get()
    tools = tree.tools if isinstance(tree, TaskTree) else None
    if not isinstance(tools, Tools):
        raise RuntimeError(
            f"{what}.step() is for the handler of a durable function, outside of its steps; elsewhere write {what}.delay(...)"
        )
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            f"{what}.step() is for `async def` handlers; in a `def` handler write step.invoke({what!r}, function={what}, "
            f"data={what}.arguments(...))"
        ) from None
    return Step(tools)
