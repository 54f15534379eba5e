"""Operations that something else resolves: time, an event, another run, another process. Rules S3.2, S3.3, S3.6, S4.3.

They are stored together. When no branch can go on, the same script suspends the run; while some branch executes, the run stays
here, and is told when one of them is resolved.
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
    """How the parked operations of one resident run get to the store, and what became of them back."""

    __slots__ = ("fetches", "is_suspending", "journal", "owned", "timer", "tree", "turns", "was_told")

    def __init__(self, journal: Journal, owned: OwnedRun, tree: TaskTree, turns: Turns) -> None:
        self.journal = journal
        self.owned = owned
        self.tree = tree
        self.turns = turns
        self.is_suspending = False
        # under way: what they bring is not to be suspended over
        self.fetches = 0
        # that something was resolved
        self.was_told = False
        self.timer: asyncio.TimerHandle | None = None

    def store_soon(self, loop: asyncio.AbstractEventLoop, store: Callable[[], None]) -> None:
        """Have `store` called after a pause, once for all that is parked until then."""
        if self.timer is None:
            self.timer = loop.call_later(STORE_DELAY_S, store)

    def close(self) -> None:
        """Let go of the pause, which is over or not needed any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    @property
    def may_suspend(self) -> bool:
        return not self.is_suspending and not self.fetches

    def suspend(self) -> Coroutine[Any, Any, Verdict]:
        """Give up the claim until something is resolved. DIRTY when something is, by now: it is to be fetched."""
        self.is_suspending = True
        return self.store_and_leave()

    async def store_and_leave(self) -> Verdict:
        try:
            return await self.owned.park(self.journal.take_unstored(), suspend=True, joins=self.find_joins())
        finally:
            self.is_suspending = False

    async def store(self) -> Verdict:
        """Other branches execute on: store what is parked, so that time runs and events are met."""
        return await self.owned.park(self.journal.take_unstored(), suspend=False, joins={})

    def find_joins(self) -> dict[str, int]:
        """Which pending operations only count together, by step key."""
        pending = self.journal.pending
        if len(pending) < 2:
            return {}
        keys = {waiter: key for key, waiter in pending.items()}
        groups = self.tree.join_groups()
        return {
            keys[waiter]: number for number, group in enumerate(groups) for waiter in group if waiter in keys
        }

    def fetch(self) -> Coroutine[Any, Any, Verdict]:
        """Read what became of the pending operations, and let their branches go on."""
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
