"""Ends the tasks of a suspended run. Rule S4.6.

All tasks get `Suspend` in the same loop iteration, children first. Tasks in a gather, wait or as_completed get it themselves, and
not through its members: a `gather(..., return_exceptions=True)` that returned suspended members would let user code go on and take
them for results.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Any

from taskflow.engine.tasks.awaiting import (
    GATHER_CALLBACK,
    SHIELD_INNER_CALLBACK,
    AnyFuture,
    AnyTask,
    await_chain,
    callbacks,
    captured,
    wait_behind,
)
from taskflow.errors import Suspend

logger = logging.getLogger("taskflow.engine")

ROUNDS = 3  # how often tasks that don't end are cancelled


def throw_suspend(tasks: Sequence[AnyTask], parked: Sequence[AnyFuture]) -> None:
    """Raise Suspend in each task, at the future that it awaits; cancel tasks that await futures that aren't the run's.

    `tasks` are ordered from the youngest: a TaskGroup whose body leaves cancels children that haven't got Suspend.
    """
    silence_joins([*tasks, *parked])
    resting = {*tasks, *parked}
    fates = [(task, throw_into(task, resting)) for task in tasks]
    for future in parked:  # those that no task awaits itself
        throw(future)
    if any(fate is Fate.CANCELLED for _, fate in fates):
        # A TaskGroup takes a cancelled member for one that has ended well, and its body would go on.
        for task, fate in fates:
            if fate is Fate.LEFT_TO_MEMBERS:
                task.cancel()


class Fate(Enum):
    """The way in which a task ends."""

    THROWN = auto()
    CANCELLED = auto()
    LEFT_TO_MEMBERS = auto()  # the end of what it awaits reaches it


def throw_into(task: AnyTask, resting: set[Any]) -> Fate:
    waiter: AnyFuture | None = task._fut_waiter  # type: ignore[attr-defined]
    if waiter is None or waiter.done():
        task.cancel()
        return Fate.CANCELLED
    if waiter in resting:
        if isinstance(waiter, asyncio.Task):
            return Fate.LEFT_TO_MEMBERS
        throw(waiter)
        return Fate.THROWN
    wait = wait_behind(waiter, await_chain(task), (resting,))
    if wait is not None and wait.throwable:
        throw(waiter)
        return Fate.THROWN
    if wait is not None and not wait.moving and resting.issuperset(wait.members):
        return Fate.LEFT_TO_MEMBERS
    task.cancel()
    return Fate.CANCELLED


def throw(future: AnyFuture) -> None:
    if not future.done():
        future.set_exception(Suspend())
        future.exception()  # counts as fetched, should nobody await it


def silence_joins(futures: list[AnyFuture]) -> None:
    """Count the outcome of each gather and shield over these as fetched, should nobody await it."""
    seen: set[AnyFuture] = set()
    for future in futures:  # grows meanwhile: joins of joins
        for callback in callbacks(future):
            code = getattr(callback, "__code__", None)
            if code is None or (code is not GATHER_CALLBACK and code is not SHIELD_INNER_CALLBACK):
                continue
            outer = captured(callback, "outer")
            if outer not in seen:
                seen.add(outer)
                outer.add_done_callback(fetch_outcome)
                futures.append(outer)


def fetch_outcome(future: AnyFuture) -> None:
    if not future.cancelled():
        future.exception()


async def settle(tasks: Mapping[AnyTask, int], *, grace_s: float) -> list[AnyTask]:
    """Wait until all `tasks` ended, and those added meanwhile; cancel the slow. Returns what didn't end."""
    for _ in range(ROUNDS):
        # Clean-up spawns tasks: wait for those as well before anything is cancelled.
        deadline = asyncio.get_running_loop().time() + grace_s
        while left := unfinished(tasks):
            done, _ = await asyncio.wait(left, timeout=deadline - asyncio.get_running_loop().time())
            if not done:
                break
        for task in left:
            task.cancel()
    left = unfinished(tasks)
    if left:
        await asyncio.wait(left, timeout=grace_s)
        left = unfinished(tasks)
    for task in left:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        logger.error(
            "a suspended handler's task did not end, though cancelled %d times; does it catch Suspend or "
            "CancelledError (a bare `except:`) in a loop? %r",
            ROUNDS,
            task,
        )
    return left


def unfinished(tasks: Iterable[AnyTask]) -> list[AnyTask]:
    return [task for task in tasks if not task.done()]
