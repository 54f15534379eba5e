"""Parking: stores the operations that time, an event, another run or another process resolves. Rules S3.2, S3.3, S3.6, S4.3.

They are stored together. If no branch can go on, the same script suspends the run; while a branch executes, the run stays here, and
gets a message when an operation is resolved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from taskflow.engine.journal import Journal
from taskflow.engine.owned import OwnedRun
from taskflow.engine.tasks.suspension import TaskTree
from taskflow.engine.turns import Turns
from taskflow.store.claims import Verdict
from taskflow.store.operation import Operation

# Operations that are parked while other branches execute are stored after this pause, together; a run that can be
# suspended is suspended at once.
STORE_DELAY_S = 0.002


class Parking:
    """Brings the parked operations of one run to the store, and their outcomes back."""

    __slots__ = ("fetches", "is_suspending", "journal", "owned", "timer", "tree", "turns", "was_told")

    def __init__(self, journal: Journal, owned: OwnedRun, tree: TaskTree, turns: Turns) -> None:
        self.journal = journal
        self.owned = owned
        self.tree = tree
        self.turns = turns
        self.is_suspending = False
        # how many reads of outcomes are under way; the run is not suspended meanwhile
        self.fetches = 0
        # whether a message said that an operation was resolved
        self.was_told = False
        self.timer: asyncio.TimerHandle | None = None

    def store_soon(self, loop: asyncio.AbstractEventLoop, store: Callable[[], None]) -> None:
        """Have `store` called after a pause, once for all operations that are parked until then."""
        if self.timer is None:
            self.timer = loop.call_later(STORE_DELAY_S, store)

    def close(self) -> None:
        """End the pause, which is over or not needed any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    @property
    def may_suspend(self) -> bool:
        return not self.is_suspending and not self.fetches

    def suspend(self) -> Coroutine[Any, Any, Verdict]:
        """Store the operations and give up the claim. DIRTY if one is resolved by now: then fetch it."""
        self.is_suspending = True
        return self.store_and_leave()

    async def store_and_leave(self) -> Verdict:
        try:
            return await self.owned.park(self.journal.take_unstored(), suspend=True, joins=self.find_joins())
        finally:
            self.is_suspending = False

    async def store(self) -> Verdict:
        """Store the parked operations while other branches execute on, so that their time runs and events meet them."""
        return await self.owned.park(self.journal.take_unstored(), suspend=False, joins={})

    def find_joins(self) -> dict[str, int]:
        """The pending operations that can only let the handler go on together: step key -> number of the group."""
        pending = self.journal.pending
        if len(pending) < 2:
            return {}
        keys = {waiter: key for key, waiter in pending.items()}
        groups = self.tree.join_groups()
        return {
            keys[waiter]: number for number, group in enumerate(groups) for waiter in group if waiter in keys
        }

    def fetch(self) -> Coroutine[Any, Any, Verdict]:
        """Read the outcomes of the pending operations, and let their branches go on."""
        self.fetches += 1
        return self.read_resolved()

    async def read_resolved(self) -> Verdict:
        try:
            asked = self.journal.asked()
            verdict, packed_ops = await self.owned.fetch(list(asked))
            if verdict is not Verdict.FENCED:
                for key, op in self.journal.news_of(asked, packed_ops):
                    self.resolved(key, op)
            return verdict
        finally:
            self.fetches -= 1

    def resolved(self, key: str, op: Operation) -> None:
        waiter = self.journal.pending.get(key)
        if waiter is None or waiter.done():
            return
        if op.is_finished:
            op.order = self.turns.expect(key)
            self.journal.resolved(key, op)
        waiter.set_result(op)
