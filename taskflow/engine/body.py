"""The body: the code of a handler up to its first call of a step tool. Rules S4.7, S6.3, S15.2.

The body is one implicit step, and a function without steps is only that. It is unknown beforehand whether a handler has steps: its
code is the body until it calls a tool, and from then on code between steps, which a replay goes through again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from taskflow.engine.soft_limit import SoftLimit
from taskflow.errors import StepTimeout
from taskflow.function import BodyLimits
from taskflow.guard import current_limit
from taskflow.values.durations import format_duration

if TYPE_CHECKING:
    from taskflow.engine.execution import Execution

AGAIN_S = 1.0
"""How long after a cancellation that a task's code has caught it is cancelled again."""


async def within_limits(run: Execution, handler: Awaitable[Any], limits: BodyLimits) -> Any:
    """Await a handler. A body that takes too long is cancelled: StepTimeout, of no step. A thread that blocks is abandoned.

    This is no `asyncio.timeout`: while one is pending the run could not be suspended, and this limit ends with the body.
    """
    limit = Limit(run, limits)
    try:
        result = await handler
        if limit.is_over:
            raise asyncio.CancelledError
        return result
    except asyncio.CancelledError:
        if not limit.is_over or limit.is_cancelled_by_others():
            raise
        if run.threads is not None and run.threads.abandon():
            run.host.abandon_thread(f"the handler of {run.function_id} blocks a thread past its time limit")
        raise StepTimeout(
            f"the code of {run.function_id} took longer than {limits.hard_name} ({format_duration(limits.hard_ms or 0)}) before "
            "its first step",
            name="StepTimeout",
        ) from None
    finally:
        limit.close()


class Limit:
    """The time limits of a body, which the current task awaits."""

    __slots__ = ("cancels", "is_over", "limits", "run", "soft", "task", "timers")

    def __init__(self, run: Execution, limits: BodyLimits) -> None:
        task = asyncio.current_task()
        assert task is not None, "a handler is awaited in a task"
        self.run = run
        self.task = task
        self.limits = limits
        self.is_over = False
        self.cancels = 0
        self.timers: list[asyncio.TimerHandle] = []
        self.soft: SoftLimit | None = None
        if limits.soft_ms is not None:
            limit = format_duration(limits.soft_ms)
            self.soft = SoftLimit(f"{run.function_id} has taken longer than timeouts.soft ({limit})")
            current_limit.set(self.soft)
            self.timers.append(run.host.loop.call_later(limits.soft_ms / 1000, self.warn))
        if limits.hard_ms is not None:
            self.timers.append(run.host.loop.call_later(limits.hard_ms / 1000, self.end))

    @property
    def holds(self) -> bool:
        return self.run.in_body and not self.run.tree.suspending

    def warn(self) -> None:
        if self.soft is not None and self.holds:
            self.soft.fire()

    def end(self) -> None:
        if self.holds:
            self.is_over = True
            self.cancels += 1
            self.task.cancel()
            # Code that catches the cancellation does not go on for ever.
            self.timers.append(self.run.host.loop.call_later(AGAIN_S, self.end))

    def is_cancelled_by_others(self) -> bool:
        """Take the cancellations of this limit back; return whether others are left."""
        left = self.task.cancelling()
        while self.cancels and left:
            self.cancels -= 1
            left = self.task.uncancel()
        return left > 0

    def close(self) -> None:
        for timer in self.timers:
            timer.cancel()
