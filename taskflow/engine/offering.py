"""Slots for parallel steps; those that find none for a while are offered to other processes. Rule S4.4."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from taskflow.engine.operation import OFFER, Operation
from taskflow.store.claims import ParkedOp

if TYPE_CHECKING:
    from taskflow.engine.execution import Execution

OFFER_AFTER_S = 0.05
MAX_OFFERS = 50  # at a time: each costs its taker a replay


class Offering:
    """The steps of one resident run that wait for a slot."""

    __slots__ = ("execution", "offers", "slotless", "timer")

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.slotless: dict[
            str, tuple[Operation, asyncio.Future[Operation]]
        ] = {}  # by step key; not offered yet
        self.offers: set[str] = set()  # keys of those that are
        self.timer: asyncio.TimerHandle | None = None

    async def find_slot(self, key: str, op: Operation) -> Operation:
        """Get a slot for a parallel step. Returns `op` once there is one here, or what another process made of it."""
        host = self.execution.host
        slot = host.ask_for_slot()
        if slot.done():
            return op
        parked: asyncio.Future[Operation] = self.execution.tree.parked()
        slot.add_done_callback(lambda _: None if parked.done() else parked.set_result(op))
        self.slotless[key] = (op, parked)
        if self.timer is None:
            self.timer = host.loop.call_later(OFFER_AFTER_S, self.offer)
        try:
            found = await parked
        except BaseException:
            self.give_back(slot)
            if self.forget(key) and self.execution.is_going_on:
                self.execution.parking.give_up(key)
            raise
        was_offered = self.forget(key)
        if found is not op:
            self.give_back(slot)
            self.offer()
            if found.is_finished:
                await self.execution.turns.take(key)
        elif not was_offered or await self.withdraw(key):
            return op
        else:  # a slot came, but another process has the step by now
            host.free_slot()
            self.execution.parking.was_told = True
            found = await self.execution.park(key, op, stored=True)
        return found if found.is_finished else await self.find_slot(key, found)

    def give_back(self, slot: asyncio.Future[None]) -> None:
        if not slot.cancel():
            self.execution.host.free_slot()

    def forget(self, key: str) -> bool:
        """A step waits no more; True when it was offered."""
        self.slotless.pop(key, None)
        self.offers.discard(key)
        return self.execution.parking.pending.pop(key, None) is not None

    def offer(self) -> None:
        """Offer steps that wait for a slot, the last first: slots that free up here go to the first."""
        self.timer = None
        while self.slotless and len(self.offers) < MAX_OFFERS and self.execution.is_going_on:
            key, (op, parked) = self.slotless.popitem()
            self.offers.add(key)
            self.execution.parking.pending[key] = parked
            self.execution.parking.store_soon(ParkedOp(key, replace(op, state=OFFER).pack()))
        # The run may have been stuck before there was anything to suspend it with.
        self.execution.tree.look_again()

    async def withdraw(self, key: str) -> bool:
        """Take an offer back; False when another process has the step."""
        if self.execution.parking.unstored.pop(key, None) is not None:
            return True
        return await self.execution.ask(self.execution.host.claims.withdraw_offer(self.execution.claim, key))

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
