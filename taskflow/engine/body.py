"""The body: the code of a handler up to its first call of a step tool. Rules S4.7, S6.3.

The body is one implicit step, and a function without steps is only that. It is unknown beforehand whether a handler has steps: its
code is the body until it calls a tool, and from then on code between steps, which a replay goes through again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from taskflow.errors import StepTimeout
from taskflow.values.durations import format_duration

if TYPE_CHECKING:
    from taskflow.engine.execution import Execution


async def within_limit(run: Execution, handler: Awaitable[Any], limit_ms: int) -> Any:
    """Await a handler. Its body has `limit_ms`, then it is cancelled: StepTimeout, of no step. A thread that blocks is abandoned.

    This is no `asyncio.timeout`: while one is pending the run could not be suspended, and this limit ends with the body.
    """
    limit = Limit(run, limit_ms)
    try:
        return await handler
    except asyncio.CancelledError:
        if not limit.is_over or limit.task.uncancel():
            raise
        if run.threads is not None and run.threads.abandon():
            run.host.abandon_thread(f"the handler of {run.function_id} blocks a thread past its time limit")
        raise StepTimeout(
            f"the code of {run.function_id} took longer than timeouts.step ({format_duration(limit_ms)}) before its first step",
            name="StepTimeout",
        ) from None
    finally:
        limit.timer.cancel()


class Limit:
    """The time limit of a body, which the current task awaits."""

    __slots__ = ("is_over", "run", "task", "timer")

    def __init__(self, run: Execution, limit_ms: int) -> None:
        task = asyncio.current_task()
        assert task is not None, "a handler is awaited in a task"
        self.run = run
        self.task = task
        self.is_over = False
        self.timer = run.host.loop.call_later(limit_ms / 1000, self.end)

    def end(self) -> None:
        if self.run.in_body and not self.run.tree.suspending:
            self.is_over = True
            self.task.cancel()
