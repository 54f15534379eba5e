"""Races: ends the branches that lost a race. Rule S3.7."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from taskflow.engine.slots import RunSlots
from taskflow.engine.tasks.suspension import TaskTree


class Races:
    """The losers of races in one run."""

    __slots__ = ("losers", "slots", "tree", "waiting")

    def __init__(self, tree: TaskTree, slots: RunSlots) -> None:
        self.tree = tree
        self.slots = slots
        # tasks that executed a step when their race was decided
        self.losers: set[asyncio.Future[Any]] = set()
        # Waiters of steps that lost a race before, and are called again in the replay.
        self.waiting: list[asyncio.Future[None]] = []

    def cancel_losers(self, tasks: Iterable[asyncio.Future[Any]]) -> None:
        """End the losers of a race: branches that wait are cancelled, steps that execute end and are ignored."""
        for task in tasks:
            if task in self.slots.busy:
                self.losers.add(task)
            else:
                task.cancel()

    def check(self) -> None:
        """Check the current task before a tool is called. Raises CancelledError in a branch that lost: its step has ended."""
        if self.losers and asyncio.current_task() in self.losers:
            raise asyncio.CancelledError

    async def lose_again(self) -> None:
        """Rest in a step that lost a race before, until the replay has decided that race, and cancels the step as before."""
        waiter: asyncio.Future[None] = self.tree.parked()
        self.waiting.append(waiter)
        await waiter

    def revive(self) -> bool:
        """Let the resting losers go on; False if there are none.

        No branch can go on, so the race was not decided as before: the code, or what it reads outside its steps, has changed.
        """
        waiting, self.waiting = [waiter for waiter in self.waiting if not waiter.done()], []
        for waiter in waiting:
            waiter.set_result(None)
        return bool(waiting)
