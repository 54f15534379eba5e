"""Slots for parallel steps; those that find none for a while are offered to other processes. Rule S4.4.

With a concurrency limit each parallel step needs a lease of its own, and those come with claims: such steps are always offered,
also to this process (S7.1).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from taskflow.store.claims import ParkedOp
from taskflow.store.operation import OFFER, Operation

if TYPE_CHECKING:
    from taskflow.engine.execution import Execution

STANDSTILL_S = 0.01  # no slot came free here for so long: others may have one
OFFER_AFTER_S = 0.05  # nor do steps wait longer while slots do come free, as they do for short steps
MAX_OFFERS = 50  # at a time: each costs its taker a replay


class Offering:
    """The steps of one resident run that wait for a slot."""

    __slots__ = ("execution", "is_moving", "offer_at_s", "offers", "slotless", "timer")

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.slotless: dict[
            str, tuple[Operation, asyncio.Future[Operation]]
        ] = {}  # by step key; not offered yet
        self.offers: set[str] = set()  # keys of those that are
        self.timer: asyncio.TimerHandle | None = None
        self.offer_at_s = 0.0  # by the loop's clock
        self.is_moving = False  # a slot came free since the last look

    async def find_slot(self, key: str, op: Operation) -> Operation:
        """Get a slot for a parallel step. Returns `op` once there is one here, or what another process made of it."""
        host = self.execution.host
        is_limited = bool(self.execution.function.spec.flow.concurrency)
        slot = host.loop.create_future() if is_limited else host.ask_for_slot()
        if slot.done():
            return op
        parked: asyncio.Future[Operation] = self.execution.tree.parked()
        slot.add_done_callback(lambda _: None if parked.done() else parked.set_result(op))
        self.slotless[key] = (op, parked)
        if self.timer is None:
            self.plan_offer(0 if is_limited else OFFER_AFTER_S)
        try:
            found = await parked
        except BaseException:
            self.give_back(slot)
            self.execution.turns.forget(key)
            if self.forget(key) and self.execution.is_going_on:
                self.execution.parking.give_up(key)
            raise
        was_offered = self.forget(key)
        self.is_moving = self.is_moving or found is op
        if found is not op:
            self.give_back(slot)
            self.offer()
            if found.is_finished:
                await self.execution.turns.take(key)
        elif not was_offered or await self.withdraw(key, slot):
            return op
        else:  # another process has the step by now
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

    def plan_offer(self, longest_s: float) -> None:
        loop = self.execution.host.loop
        self.offer_at_s, self.is_moving = loop.time() + longest_s, False
        self.timer = loop.call_later(min(longest_s, STANDSTILL_S), self.offer_if_stuck)

    def offer_if_stuck(self) -> None:
        """An offer costs its taker a replay, and us a command to take it back: none for what gets a slot here soon."""
        loop = self.execution.host.loop
        if not self.is_moving or loop.time() >= self.offer_at_s:
            self.offer()
            return
        self.is_moving = False
        self.timer = loop.call_later(STANDSTILL_S, self.offer_if_stuck)

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

    async def withdraw(self, key: str, slot: asyncio.Future[None]) -> bool:
        """Take an offer back, as a slot came; that is given back when another process has the step, or the run ends meanwhile."""
        if self.execution.parking.unstored.pop(key, None) is not None:
            return True
        host = self.execution.host
        is_ours = False
        try:
            is_ours, hints = await self.execution.ask(
                host.claims.withdraw_offer(self.execution.claim, key, now_ms=host.clock.now_ms())
            )
        finally:
            if not is_ours:
                self.give_back(slot)
        if hints:
            host.send_hints(hints)
        return is_ours

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
