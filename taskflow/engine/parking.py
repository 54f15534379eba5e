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

    __slots__ = (
        "asks_all", "is_fetching", "is_suspending", "journal", "owned", "stores", "timer", "told", "tree", "turns", "was_told",
    )  # fmt: skip

    def __init__(self, journal: Journal, owned: OwnedRun, tree: TaskTree, turns: Turns) -> None:
        self.journal = journal
        self.owned = owned
        self.tree = tree
        self.turns = turns
        self.is_suspending = False
        # Outcomes are being read; the run is not suspended meanwhile.
        self.is_fetching = False
        # How many calls of `store` are under way. The run is not suspended meanwhile: a wide store goes in pages, and what comes
        # after the end of the claim would be refused.
        self.stores = 0
        # whether a message said that an operation was resolved
        self.was_told = False
        # what the next read is to ask for: these operations, or all that are pending
        self.told: set[str] = set()
        self.asks_all = False
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
        return not self.is_suspending and not self.is_fetching and not self.stores

    def suspend(self) -> Coroutine[Any, Any, Verdict]:
        """Store the operations and give up the claim. DIRTY if one is resolved by now: then fetch it."""
        self.is_suspending = True
        return self.store_and_leave()

    async def store_and_leave(self) -> Verdict:
        try:
            verdict = await self.owned.park(
                self.journal.take_unstored(), suspend=True, joins=self.find_joins()
            )
            if verdict is Verdict.DIRTY:
                self.tell("")
            return verdict
        finally:
            self.is_suspending = False

    def store(self) -> Coroutine[Any, Any, Verdict]:
        """Store the parked operations while other branches execute on, so that their time runs and events meet them."""
        self.stores += 1
        return self.store_and_stay()

    async def store_and_stay(self) -> Verdict:
        try:
            return await self.owned.park(self.journal.take_unstored(), suspend=False, joins={})
        finally:
            self.stores -= 1

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

    def tell(self, key: str) -> None:
        """Have the next read ask for this operation, which may be resolved; for all that are pending if `key` is empty."""
        self.was_told = True
        if key:
            self.told.add(key)
        else:
            self.asks_all = True

    @property
    def may_fetch(self) -> bool:
        return bool(self.journal.pending) and not self.is_suspending and not self.is_fetching

    def fetch(self) -> Coroutine[Any, Any, Verdict]:
        """Read the outcomes that were asked for, and let their branches go on.

        One read at a time: what is told meanwhile goes in the next. A wide run would else read everything for each outcome.
        """
        self.is_fetching = True
        return self.read_resolved()

    async def read_resolved(self) -> Verdict:
        try:
            verdict = Verdict.OK
            while verdict is Verdict.OK and (self.asks_all or self.told):
                verdict = await self.read_once()
            return verdict
        finally:
            self.is_fetching = False

    async def read_once(self) -> Verdict:
        is_all, told = self.asks_all, self.told
        self.asks_all, self.told = False, set()
        asked = self.journal.asked(None if is_all else told)
        if not asked and not is_all:
            return Verdict.OK
        verdict, packed_ops = await self.owned.fetch(list(asked), is_all=is_all)
        if verdict is not Verdict.FENCED:
            for key, op in self.journal.news_of(asked, packed_ops):
                self.resolved(key, op)
        return verdict

    def resolved(self, key: str, op: Operation) -> None:
        waiter = self.journal.pending.get(key)
        if waiter is None or waiter.done():
            return
        if op.is_finished:
            op.order = self.turns.expect(key)
            self.journal.resolved(key, op)
        waiter.set_result(op)
