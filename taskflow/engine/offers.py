"""Slots for parallel steps; those that find none for a while are offered to other processes. Rule S4.4.

With a concurrency limit each parallel step needs a place of its own under it, and those come with claims: such steps are always
offered, also to this process (S7.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from taskflow.engine.journal import Journal, Waiter
from taskflow.engine.owned import OwnedRun
from taskflow.engine.slots import RunSlots
from taskflow.engine.tasks.suspension import TaskTree
from taskflow.store.operation import OFFER, TAKEN, Operation

STANDSTILL_S = 0.01  # no slot came free here for so long: others may have one
OFFER_AFTER_S = 0.05  # nor do steps wait longer while slots do come free, as they do for short steps
MAX_OFFERS = 50  # at a time: each costs its taker a replay


class Place(NamedTuple):
    """Where a parallel step executes: here, in `slot`. Without one, another process has it (`op` is TAKEN), or has executed it."""

    op: Operation
    slot: asyncio.Future[None] | None


class Offer(NamedTuple):
    """A step that the store is to offer to all processes, and who waits here for what becomes of it."""

    key: str
    op: Operation
    waiter: Waiter


OnOffer = Callable[[Sequence[Offer]], None]


class Offers:
    """The steps of one resident run that wait for a slot."""

    __slots__ = (
        "is_limited", "is_moving", "journal", "loop", "offer_at_s", "offered", "owned", "slotless", "slots", "timer", "tree",
    )  # fmt: skip

    def __init__(
        self,
        journal: Journal,
        owned: OwnedRun,
        tree: TaskTree,
        slots: RunSlots,
        *,
        loop: asyncio.AbstractEventLoop,
        is_limited: bool,
    ) -> None:
        """`is_limited`: the function has a concurrency limit."""
        self.journal = journal
        self.owned = owned
        self.tree = tree
        self.slots = slots
        self.loop = loop
        self.is_limited = is_limited
        # by step key; not offered yet
        self.slotless: dict[str, tuple[Operation, Waiter]] = {}
        # keys of those that are
        self.offered: set[str] = set()
        self.timer: asyncio.TimerHandle | None = None
        # by the loop's clock
        self.offer_at_s = 0.0
        # a slot came free since the last look
        self.is_moving = False

    @property
    def may_suspend(self) -> bool:
        """Steps beyond MAX_OFFERS are met again when an offered one has been executed; none is offered yet: wait for that."""
        return bool(self.offered) or not self.slotless

    async def find_slot(self, key: str, op: Operation, on_offer: OnOffer) -> Place:
        """Get a slot for a parallel step. `on_offer` is told of those that are to be offered."""
        slot = self.slots.extra(self.loop.create_future() if self.is_limited else None)
        if slot.done():
            return Place(op, slot)
        parked: Waiter = self.tree.parked()
        slot.add_done_callback(lambda _: None if parked.done() else parked.set_result(op))
        self.slotless[key] = (op, parked)
        if self.timer is None:
            self.plan_offer(0 if self.is_limited else OFFER_AFTER_S, on_offer)
        is_ours = False
        try:
            found = await parked
            was_offered = self.forget(key)
            self.is_moving = self.is_moving or found is op
            is_ours = found is op and (not was_offered or await self.withdraw(key))
        finally:
            # It may have been resolved elsewhere, or the run ended meanwhile.
            if not is_ours:
                self.slots.give_back(slot)
        if is_ours:
            return Place(op, slot)
        if found is op:
            return Place(replace(op, state=TAKEN), None)
        self.offer(on_offer)
        return Place(found, None)

    def forget(self, key: str) -> bool:
        """A step waits no more; True when it was offered."""
        self.slotless.pop(key, None)
        self.offered.discard(key)
        return self.journal.leave(key)

    async def withdraw(self, key: str) -> bool:
        """Take an offer back, as a slot came. False when another process has the step."""
        return self.journal.withdraw(key) or await self.owned.withdraw(key)

    def plan_offer(self, longest_s: float, on_offer: OnOffer) -> None:
        self.offer_at_s, self.is_moving = self.loop.time() + longest_s, False
        self.timer = self.loop.call_later(min(longest_s, STANDSTILL_S), self.offer_if_stuck, on_offer)

    def offer_if_stuck(self, on_offer: OnOffer) -> None:
        """An offer costs its taker a replay, and us a command to take it back: none for what gets a slot here soon."""
        if not self.is_moving or self.loop.time() >= self.offer_at_s:
            self.offer(on_offer)
            return
        self.is_moving = False
        self.timer = self.loop.call_later(STANDSTILL_S, self.offer_if_stuck, on_offer)

    def offer(self, on_offer: OnOffer) -> None:
        """Offer steps that wait for a slot, the last first: slots that free up here go to the first."""
        self.close()
        offers = []
        while self.slotless and len(self.offered) < MAX_OFFERS:
            key, (op, parked) = self.slotless.popitem()
            self.offered.add(key)
            offers.append(Offer(key, replace(op, state=OFFER), parked))
        on_offer(offers)

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
