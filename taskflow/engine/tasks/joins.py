"""Finds groups of operations that only matter together (a gather, a TaskGroup): the store wakes the run for the last of a group.

So a run over 1,000 invokes is woken once. A parked future is quiet if its success only ends the task of its step operation, without
user code in between, and only tells a join that needs all its members: a gather, a TaskGroup, or a wait for all or for the first
exception. The quiet futures of one join form a group; so do those of tasks that nobody awaits yet. A future that can't be proved
quiet is in no group, and wakes the run by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from taskflow.engine.tasks.awaiting import (
    GATHER_CALLBACK,
    WAIT_CALLBACK,
    AnyFuture,
    AnyTask,
    callbacks,
    captured,
)

UNOBSERVED = object()
GROUP_CALLBACK = asyncio.TaskGroup._on_task_done


def join_groups(
    tasks: Iterable[AnyTask], parked: Iterable[AnyFuture], is_operation: Callable[[Any], bool]
) -> list[set[AnyFuture]]:
    """Sets of two or more parked futures: all of a set must succeed before user code can go on."""
    groups: dict[object, set[AnyFuture]] = {}
    # Told of a parked future that is quiet: the tree, and the operation's task or the join.
    lone = {future: rest[0] for future in parked if len(rest := callbacks(future)[1:]) == 1}
    for task in tasks:
        waiter: AnyFuture | None = None if task.done() else task._fut_waiter  # type: ignore[attr-defined]
        if waiter not in lone or waiter is None:
            continue
        del lone[waiter]
        if is_operation(task.get_coro()):
            add_to_group(groups, join_of(callbacks(task)), waiter)
    for future, observer in lone.items():  # awaited by no task: perhaps a member of a join itself
        add_to_group(groups, join_of([observer]), future)
    return [group for group in groups.values() if len(group) > 1]


def add_to_group(groups: dict[object, set[AnyFuture]], join: object | None, future: AnyFuture) -> None:
    if join is not None:
        groups.setdefault(join, set()).add(future)


def join_of(observers: list[Any]) -> object | None:
    """The join that needs all its members, if it is the only observer; else None."""
    if not observers:
        return UNOBSERVED
    if len(observers) > 1:
        return None
    observer = observers[0]
    if getattr(observer, "__func__", None) is GROUP_CALLBACK:
        return observer.__self__  # type: ignore[no-any-return]
    code = getattr(observer, "__code__", None)
    if code is not None and code is WAIT_CALLBACK:
        until = captured(observer, "return_when")
        return None if until == asyncio.FIRST_COMPLETED else observer
    if code is not None and code is GATHER_CALLBACK:
        return outermost(captured(observer, "outer"))
    return None


def outermost(gathering: AnyFuture) -> object:
    """A gather that is only a member of another join ends silently too: the join that is not."""
    join = join_of(callbacks(gathering))
    return gathering if join is None or join is UNOBSERVED else join
