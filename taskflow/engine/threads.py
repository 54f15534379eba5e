"""Threads: run the code of `def` handlers, which block in the step tools. Rules S2.4, S3.7, S4.6.

A thread either runs the handler's code or waits for a step. Only one thread of a run at a time runs code outside of steps, in an
order that a replay can keep; the functions of steps run side by side as always.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

from taskflow.engine.races import Races
from taskflow.engine.tasks.suspension import TaskTree
from taskflow.engine.thread_pool import ThreadPool
from taskflow.engine.turns import Turns

R = TypeVar("R")


class Branch:
    """One thread."""

    __slots__ = ("call", "is_lost", "is_over")

    def __init__(self) -> None:
        # the step that it waits for
        self.call: asyncio.Task[Any] | None = None
        # in a race
        self.is_lost = False
        # Its code has ended, or nobody waits for it any more.
        self.is_over = False


current_branch: ContextVar[Branch | None] = ContextVar("taskflow_branch", default=None)


class Threads:
    """The threads of one run."""

    __slots__ = ("branches", "loop", "pool", "races", "tree", "turns")

    def __init__(
        self, tree: TaskTree, turns: Turns, races: Races, *, pool: ThreadPool, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.tree = tree
        self.turns = turns
        self.races = races
        self.pool = pool
        self.loop = loop
        # those that are not over, the handler's own first
        self.branches: dict[Branch, None] = {}

    async def run(self, code: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Run the handler, or one branch of it, in a thread."""
        branch = Branch()
        self.branches[branch] = None
        current_branch.set(branch)
        self.goes_on()
        done = self.pool.call(code, args, {})
        parked = self.tree.parked()

        def pass_on(future: asyncio.Future[Any]) -> None:
            error = None if future.cancelled() else future.exception()
            if not parked.done():
                if error is not None:
                    parked.set_exception(error)
                else:
                    parked.set_result(future.result())
            self.ends(branch)

        done.add_done_callback(pass_on)
        try:
            return await parked
        except asyncio.CancelledError:
            branch.is_lost = True
            if branch.call is not None:
                self.races.cancel_losers([branch.call])
            raise

    def abandon(self) -> bool:
        """Wait no more for the threads of the handler, whose code has taken too long; return whether any of them executes."""
        executing = [branch for branch in self.branches if branch.call is None]
        for branch in list(self.branches):
            self.ends(branch)
        return bool(executing)

    def ends(self, branch: Branch) -> None:
        """Note that the code of a branch has ended, or is abandoned. Safe to repeat."""
        if branch.is_over:
            return
        branch.is_over = True
        del self.branches[branch]
        # One that waits for a step rests already.
        if branch.call is None:
            self.rests()

    async def start_each(self, branches: Sequence[Callable[[], Any]]) -> list[asyncio.Future[Any]]:
        """Start a thread for each branch, one after the other: the next starts when the last has reached its first step."""
        tasks: list[asyncio.Future[Any]] = []
        for branch in branches:
            tasks.append(asyncio.ensure_future(self.run(branch, ())))
            await asyncio.sleep(0)
            await self.turns.quiet()
        return tasks

    def block_on(self, work: Coroutine[Any, Any, R]) -> R:
        """Wait, on a thread of the handler, for a step."""
        return asyncio.run_coroutine_threadsafe(self.wait_for(work), self.loop).result()

    async def wait_for(self, work: Coroutine[Any, Any, R]) -> R:
        branch = current_branch.get()
        if branch is not None and branch.is_over:
            work.close()
            raise asyncio.CancelledError
        if branch is not None:
            branch.call = asyncio.current_task()
        self.rests()
        try:
            if branch is not None and branch.is_lost:
                work.close()
                raise asyncio.CancelledError
            return await work
        finally:
            if branch is not None:
                branch.call = None
            if branch is None or not branch.is_over:
                self.goes_on()

    def goes_on(self) -> None:
        self.tree.hold()
        self.turns.thread_runs()

    def rests(self) -> None:
        self.turns.thread_rests()
        self.tree.leave()
