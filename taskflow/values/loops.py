"""Event loops: how programs of ours make one, how a thread waits for one, and whether the task at hand is being cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


def new_loop() -> asyncio.AbstractEventLoop:
    """A new event loop; for speed one of uvloop, if that is installed."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = new_event_loop()
    return loop


def block_on(work: Awaitable[T], loop: asyncio.AbstractEventLoop) -> T:
    """Have the loop await `work`, and block the present thread, which is another one, until the result. Raises what it raises."""
    return asyncio.run_coroutine_threadsafe(awaited(work), loop).result()


async def awaited(work: Awaitable[T]) -> T:
    """An awaitable as a coroutine, for what takes nothing else."""
    return await work


def is_being_cancelled() -> bool:
    """Whether somebody has cancelled the present task. If not, a CancelledError in it is an error of user code like any other: the
    code awaited something that was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
