"""`step.parallel`: runs branches side by side, and waits for all of them or for the first. Rule S3.7."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from taskflow.errors import NonRetriableError
from taskflow.step import ParallelMode
from taskflow.steps.host import StepHost


async def parallel(
    host: StepHost, branches: Sequence[Callable[[], Awaitable[Any]]], mode: ParallelMode
) -> Any:
    check_branches(branches)
    return await join(host, [asyncio.ensure_future(as_coroutine(branch)) for branch in branches], mode)


async def parallel_threads(host: StepHost, branches: Sequence[Callable[[], Any]], mode: ParallelMode) -> Any:
    """`step.parallel` for a `def` handler: each branch runs in a thread of its own."""
    check_branches(branches)
    return await join(host, await host.start_threads(branches), mode)


def check_branches(branches: Sequence[object]) -> None:
    """Raise NonRetriableError for a branch that can't be called: each attempt would fail like the first."""
    wrong = next((number for number, branch in enumerate(branches) if not callable(branch)), None)
    if wrong is None:
        return
    for branch in branches:
        if inspect.iscoroutine(branch):
            branch.close()  # it is never awaited, and Python would warn of that
    raise NonRetriableError(
        f"step.parallel(...) takes functions without arguments, but branch {wrong} is {branches[wrong]!r:.80}: write "
        "lambda: step.run(...) in place of step.run(...)."
    )


async def join(host: StepHost, tasks: list[asyncio.Future[Any]], mode: ParallelMode) -> Any:
    """Wait for the branches: return all results in order, or in a race the result of the first, and cancel the others."""
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
    """Mark the outcome of a loser as fetched: nobody needs it, and asyncio would complain of its error."""
    if not task.cancelled():
        task.exception()


async def as_coroutine(branch: Callable[[], Awaitable[Any]]) -> Any:
    return await branch()
