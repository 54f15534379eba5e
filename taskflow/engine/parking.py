"""Operations that something else resolves: time, an event, another run, another process. Rules S3.2, S3.3, S3.6, S4.3.

They are stored together. When no branch can go on, the same script suspends the run; while some branch executes, the run stays
here, and is told when one of them is resolved.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from taskflow.store.claims import ParkedOp, Verdict
from taskflow.store.operation import DONE, DUE, Operation

if TYPE_CHECKING:
    from taskflow.engine.execution import Execution

# Operations that are parked while other branches execute are stored after this pause, together; a run that can be
# suspended is suspended at once.
STORE_DELAY_S = 0.002


class Parking:
    """The parked operations of one resident run."""

    __slots__ = ("execution", "fetches", "is_suspending", "notes", "pending", "timer", "unstored", "was_told")

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.pending: dict[str, asyncio.Future[Operation]] = {}  # by step key
        self.unstored: dict[str, ParkedOp] = {}  # those that the store does not know yet
        self.notes: dict[str, bytes] = {}  # finished operations whose place in the order is not stored yet
        self.is_suspending = False
        self.fetches = 0  # under way: what they bring is not to be suspended over
        self.was_told = False  # that something was resolved
        self.timer: asyncio.TimerHandle | None = None

    async def park(self, key: str, parked: ParkedOp | None) -> Operation:
        """Wait until an operation is resolved, or a retry is due; `parked` is what to store, None if it is stored."""
        future: asyncio.Future[Operation] = self.execution.tree.parked()
        self.pending[key] = future
        if parked is not None:
            self.store_soon(parked)
        elif self.was_told:  # perhaps of this one, before it was parked
            self.look()
        try:
            resolved = await future
        except asyncio.CancelledError:
            # It may have been resolved in the turn in which its branch lost a race.
            self.execution.turns.forget(key)
            if self.execution.is_going_on:
                self.give_up(key)
            raise
        finally:
            self.pending.pop(key, None)
            del future  # a Suspend in it leads back here, a cycle
        if resolved.is_finished:
            await self.execution.turns.take(key)
        return resolved

    def store_soon(self, parked: ParkedOp) -> None:
        self.unstored[parked.step_key] = parked
        if self.timer is None:
            self.timer = self.execution.host.loop.call_later(STORE_DELAY_S, self.store_and_stay)

    def give_up(self, key: str) -> None:
        """The loser of a race: take back what was stored for it."""
        self.unstored.pop(key, None)
        self.execution.spawn(self.drop(key))

    async def drop(self, key: str) -> None:
        host = self.execution.host
        hints = await host.claims.drop(self.execution.claim, [key], now_ms=host.clock.now_ms())
        if hints:
            host.send_hints(hints)

    def store_and_stay(self) -> None:
        """Other branches execute on: store what is parked, so that time runs and events are met."""
        self.timer = None
        if self.execution.is_going_on and not self.is_suspending and self.unstored:
            self.execution.spawn(self.store(suspend=False))

    def suspend(self) -> None:
        """No branch can go on: give up the claim until something is resolved."""
        self.is_suspending = True
        self.execution.spawn(self.store_and_leave())

    async def store_and_leave(self) -> None:
        verdict = await self.store(suspend=True)
        self.is_suspending = False
        if verdict is Verdict.PARKED:
            self.execution.suspended()
        elif verdict is Verdict.DIRTY:
            self.fetches += 1
            await self.fetch()

    async def store(self, *, suspend: bool) -> Verdict:
        execution = self.execution
        ops = [*(ParkedOp(key, packed) for key, packed in self.take_notes()), *self.unstored.values()]
        self.unstored = {}
        verdict, hints = await execution.host.claims.park(
            execution.claim,
            ops,
            suspend=suspend,
            joins=self.find_joins() if suspend else {},
            version=execution.host.config.app_version,
            now_ms=execution.host.clock.now_ms(),
        )
        if hints:
            execution.host.send_hints(hints)
        execution.obey(verdict)
        return verdict

    def find_joins(self) -> dict[str, int]:
        """Which pending operations only count together, by step key."""
        if len(self.pending) < 2:
            return {}
        keys = {future: key for key, future in self.pending.items()}
        groups = self.execution.tree.join_groups()
        return {
            keys[future]: number for number, group in enumerate(groups) for future in group if future in keys
        }

    def note(self, key: str, op: Operation) -> None:
        """The handler sees an outcome for the first time: its place in the order goes with the next commit."""
        self.notes[key] = op.pack()

    def take_notes(self) -> list[tuple[str, bytes]]:
        notes, self.notes = list(self.notes.items()), {}
        return notes

    def look(self) -> None:
        """Something may have been resolved while the run is here."""
        self.was_told = True
        if self.execution.is_going_on and self.pending and not self.is_suspending:
            self.fetches += 1
            self.execution.spawn(self.fetch())

    async def fetch(self) -> None:
        """Read what became of the pending operations, and let their branches go on."""
        try:
            await self.read_resolved()
        finally:
            self.fetches -= 1
        self.execution.tree.look_again()

    async def read_resolved(self) -> None:
        execution = self.execution
        # Of what is not stored yet, the store may know an earlier state: that its last retry was due, say.
        asked = {key: future for key, future in self.pending.items() if key not in self.unstored}
        verdict, packed_ops = await execution.host.claims.fetch_resolved(execution.claim, list(asked))
        if verdict is not Verdict.FENCED:
            found = [
                (key, Operation.unpack(packed))
                for key, packed in zip(asked, packed_ops, strict=True)
                if packed is not None and self.pending.get(key) is asked[key]  # else parked anew meanwhile
            ]
            for key, op in sorted(found, key=lambda item: (item[1].ended or 0, item[1].index)):
                if op.is_finished or op.state == DUE:
                    self.resolved(key, op)
        execution.obey(verdict)

    def resolved(self, key: str, op: Operation) -> None:
        future = self.pending.get(key)
        if future is None or future.done():
            return
        if op.is_finished:
            op.order = self.execution.turns.expect(key)
            self.note(key, op)
            self.execution.state_bytes += len(self.notes[key])
            if op.state == DONE:
                self.execution.attempt = 0
        future.set_result(op)

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
