"""`step.parallel`: branches side by side, all of them or the first to finish. Rule S3.7."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from taskflow.errors import NonRetriableError
from taskflow.step import ParallelMode
from taskflow.steps.host import StepHost


async def parallel(
    host: StepHost, branches: Sequence[Callable[[], Awaitable[Any]]], mode: ParallelMode
) -> Any:
    return await join(host, [asyncio.ensure_future(as_coroutine(branch)) for branch in branches], mode)


async def parallel_threads(host: StepHost, branches: Sequence[Callable[[], Any]], mode: ParallelMode) -> Any:
    """Of a `def` handler."""
    return await join(host, await host.start_threads(branches), mode)


async def join(host: StepHost, tasks: list[asyncio.Future[Any]], mode: ParallelMode) -> Any:
    """The results of all, in order; or, in a race, the result of the first, with the others cancelled."""
    if mode == "all":
        return await asyncio.gather(*tasks)
    if not tasks:
        raise NonRetriableError(
            "step.parallel(..., mode='race') needs at least one branch, got none: nothing would ever finish first. "
            "Check that what the branches are made of isn't empty."
        )
    finished: list[asyncio.Future[Any]] = []
    for task in tasks:
        task.add_done_callback(finished.append)
        task.add_done_callback(fetch_outcome)
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    host.cancel_losers([task for task in tasks if task is not finished[0]])
    return finished[0].result()


def fetch_outcome(task: asyncio.Future[Any]) -> None:
    """Nobody asks for the outcomes of losers; asyncio complains of errors that nobody has fetched."""
    if not task.cancelled():
        task.exception()


async def as_coroutine(branch: Callable[[], Awaitable[Any]]) -> Any:
    return await branch()
