"""Races: what becomes of the branches that lost. Rule S3.7."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from taskflow.engine.slots import RunSlots
from taskflow.engine.tasks.suspension import TaskTree


class Races:
    """The losers of one resident run."""

    __slots__ = ("losers", "slots", "tree", "waiting")

    def __init__(self, tree: TaskTree, slots: RunSlots) -> None:
        self.tree = tree
        self.slots = slots
        # tasks that executed a step when their race was decided
        self.losers: set[asyncio.Future[Any]] = set()
        # Steps that lost a race before, and are met again in the replay.
        self.waiting: list[asyncio.Future[None]] = []

    def cancel_losers(self, tasks: Iterable[asyncio.Future[Any]]) -> None:
        """A race is decided: branches that wait are cancelled, steps that execute end and are ignored."""
        for task in tasks:
            if task in self.slots.busy:
                self.losers.add(task)
            else:
                task.cancel()

    def check(self) -> None:
        """A tool is called in the current task. Raises CancelledError in the branch of a loser, whose step has ended by now."""
        if self.losers and asyncio.current_task() in self.losers:
            raise asyncio.CancelledError

    async def lose_again(self) -> None:
        """A step was given up: it lost a race. It rests until the replay has decided that race, and cancels it, as before."""
        waiter: asyncio.Future[None] = self.tree.parked()
        self.waiting.append(waiter)
        await waiter

    def revive(self) -> bool:
        """No branch can go on, so the race was not decided as before: the code, or what it saw outside its steps, has changed.

        False when nobody rests for a race.
        """
        waiting, self.waiting = [waiter for waiter in self.waiting if not waiter.done()], []
        for waiter in waiting:
            waiter.set_result(None)
        return bool(waiting)
