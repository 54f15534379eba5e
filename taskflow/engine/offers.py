"""Offers: finds slots for parallel steps, and offers steps without one to other processes. Rule S4.4.

With a concurrency limit each parallel step needs a place of its own under the limit, and places come with claims: such steps are
always offered, also to this process (S7.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from taskflow.engine.journal import Journal, Waiter
from taskflow.engine.owned import OwnedRun
from taskflow.engine.parking import Parking
from taskflow.engine.slots import RunSlots
from taskflow.engine.tasks.suspension import TaskTree
from taskflow.store.operation import OFFER, TAKEN, Operation

# How often a run looks whether its waiting steps are to be offered.
LOOK_S = 0.05
# A step is offered that, at the pace of the last look's span, would wait here for longer than so many of these spans: quick steps
# never are. An offer costs its taker a replay, unless it has replayed the run just now, and us a few commands.
PATIENCE = 4
# The most offers of one look, and the most at a time.
OFFERS_A_LOOK = 100
MAX_OFFERS = 1_000


class Place(NamedTuple):
    """Where a parallel step executes: here, in `slot`; without a slot another process has taken (`op` is TAKEN) or executed it."""

    op: Operation
    slot: asyncio.Future[None] | None


class Offer(NamedTuple):
    """A step that the store is to offer to all processes, with the waiter for its outcome."""

    key: str
    op: Operation
    waiter: Waiter


OnOffer = Callable[[Sequence[Offer]], None]


class Offers:
    """The steps of one run that wait for a slot."""

    __slots__ = (
        "came", "held", "is_limited", "journal", "loop", "offered", "owned", "parking", "slotless", "slots", "timer", "tree",
    )  # fmt: skip

    def __init__(
        self,
        journal: Journal,
        owned: OwnedRun,
        parking: Parking,
        tree: TaskTree,
        slots: RunSlots,
        *,
        loop: asyncio.AbstractEventLoop,
        is_limited: bool,
    ) -> None:
        """`is_limited`: the function has a concurrency limit."""
        self.journal = journal
        self.owned = owned
        self.parking = parking
        self.tree = tree
        self.slots = slots
        self.loop = loop
        self.is_limited = is_limited
        # steps that wait for a slot and are not offered yet, by key
        self.slotless: dict[str, tuple[Operation, Waiter]] = {}
        # keys of the offered steps
        self.offered: set[str] = set()
        # steps whose slot came while the store was asked to suspend the run, as `slot_came` was told
        self.held: list[tuple[Operation, Waiter, asyncio.Future[None]]] = []
        self.timer: asyncio.TimerHandle | None = None
        # how many steps have got a slot here since the last look
        self.came = 0

    @property
    def may_suspend(self) -> bool:
        """Whether the run may be suspended. Not while steps wait for a slot and none is offered: nothing would wake the run."""
        return bool(self.offered) or not self.slotless

    async def find_slot(self, key: str, op: Operation, on_offer: OnOffer) -> Place:
        """Get a slot for a parallel step. `on_offer` is called with the steps that are to be offered."""
        slot = self.slots.extra(self.loop.create_future() if self.is_limited else None)
        if slot.done():
            return Place(op, slot)
        parked: Waiter = self.tree.parked()
        slot.add_done_callback(partial(self.slot_came, op, parked))
        self.slotless[key] = (op, parked)
        if self.timer is None:
            self.plan_look(0 if self.is_limited else LOOK_S, on_offer)
        is_ours = False
        try:
            found = await parked
            self.slotless.pop(key, None)
            was_parked = self.journal.leave(key)
            self.came += found is op
            is_ours = found is op and (not was_parked or await self.withdraw(key))
            # Until here, whoever gives the step up has to tell the store.
            self.offered.discard(key)
        finally:
            # The step may have been resolved elsewhere, or the run may have ended, meanwhile.
            if not is_ours:
                self.slots.give_back(slot)
        if is_ours:
            return Place(op, slot)
        if found is op:
            return Place(replace(op, state=TAKEN), None)
        return Place(found, None)

    def slot_came(self, op: Operation, parked: Waiter, slot: asyncio.Future[None]) -> None:
        """Let a step go on with its slot. Not while the run is being suspended: the claim may be gone already (S9.4)."""
        if self.parking.is_suspending:
            self.held.append((op, parked, slot))
        elif not parked.done():
            parked.set_result(op)

    def go_on(self) -> None:
        """Let the steps go on whose slots came meanwhile: the run was not suspended."""
        held, self.held = self.held, []
        for came in held:
            self.slot_came(*came)

    def forget(self, key: str) -> bool:
        """Note that a step was given up; return whether other processes could take it, as it was not taken back for sure."""
        self.slotless.pop(key, None)
        self.journal.leave(key)
        was_offered = key in self.offered
        self.offered.discard(key)
        return was_offered

    async def withdraw(self, key: str) -> bool:
        """Take an offer back, since a slot came. False if another process has the step."""
        return self.journal.withdraw(key) or await self.owned.withdraw(key)

    def plan_look(self, after_s: float, on_offer: OnOffer) -> None:
        self.came = 0
        self.timer = self.loop.call_later(after_s, self.look, on_offer)

    def look(self, on_offer: OnOffer) -> None:
        """Offer steps that would wait for too long, the last ones first: slots that come free here go to the first ones."""
        self.timer = None
        count = min(len(self.slotless), MAX_OFFERS - len(self.offered))
        if not self.is_limited:
            count = min(count, OFFERS_A_LOOK, len(self.slotless) - PATIENCE * self.came)
        offers = []
        for _ in range(count):
            key, (op, parked) = self.slotless.popitem()
            self.offered.add(key)
            offers.append(Offer(key, replace(op, state=OFFER), parked))
        if self.slotless:
            self.plan_look(LOOK_S, on_offer)
        if offers:
            on_offer(offers)

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
