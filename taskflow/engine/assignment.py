"""Assignment: what a process executes, a whole run or steps that another process offered for want of slots. Rule S4.4.

For offered steps, the handler is called over the memos until it comes to them. They execute, and their outcomes are stored; all
other operations without a memo rest. The run itself goes on in its own process. A step that rests may be offered and taken later:
then it executes without another replay, so a process replays a wide run once, however many of its steps it takes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from taskflow.engine.host import Host
from taskflow.engine.journal import Journal
from taskflow.engine.owned import TakenSteps
from taskflow.engine.tasks.suspension import TaskTree
from taskflow.errors import DecodeError
from taskflow.retries import Retries
from taskflow.steps.attempt import fail, wait_ms
from taskflow.store.claimed import ClaimedRun, OfferedStep
from taskflow.store.operation import RETRY, Operation

# How long a replayed run is kept for the next of its steps when none of them executes here.
LINGER_S = 0.2


class WholeRun:
    """A whole run, from its memos to its end."""

    __slots__ = ()
    is_whole = True

    def may_execute(self, key: str) -> bool:
        """Whether this process may execute or store this operation, which has no memo."""
        return True


class OfferedSteps:
    """Steps of one run that another process offered. Each has the slot with which it was claimed, until its outcome is stored."""

    __slots__ = ("host", "owned", "resting", "timer", "tree")
    is_whole = False

    def __init__(self, claimed: ClaimedRun, host: Host, tree: TaskTree) -> None:
        self.host = host
        self.tree = tree
        self.owned = TakenSteps(claimed.claim.run_id, host)
        self.owned.fences.update(claimed.step_fences)
        # steps that the handler has come to, and that were not taken here yet, by key
        self.resting: dict[str, asyncio.Future[Operation]] = {}
        self.timer: asyncio.TimerHandle | None = None

    def may_execute(self, key: str) -> bool:
        return key in self.owned.fences

    @property
    def keys(self) -> list[str]:
        """The steps that were taken, and whose outcome is not stored."""
        return list(self.owned.fences)

    async def rest(self, key: str) -> Operation:
        """Rest in a step that was not taken here, until it is."""
        waiter: asyncio.Future[Operation] = self.tree.parked()
        self.resting[key] = waiter
        try:
            return await waiter
        finally:
            if self.resting.get(key) is waiter:
                del self.resting[key]

    def take(self, step: OfferedStep) -> bool:
        """Execute a further step. False if the handler does not rest in it: what leads to it is not known here."""
        waiter = self.resting.get(step.step_key)
        if waiter is None or waiter.done():
            return False
        self.close()
        self.owned.fences[step.step_key] = step.fence
        waiter.set_result(Operation.unpack(step.packed))
        return True

    def over(self, key: str) -> None:
        """Give back the slot of a step, whose claim has ended. Safe to repeat."""
        if self.owned.fences.pop(key, None) is not None:
            self.host.slots.give_back()

    async def miss(self, journal: Journal, error: BaseException | None, retries: Retries) -> None:
        """Store a failed attempt of each step that the handler did not come to."""
        now_ms = self.host.clock.now_ms()
        for key in self.keys:
            op = journal.attempt_of(key)
            if isinstance(error, DecodeError) and error.passes:
                # The step waits, as its run would (S12.2).
                op.state, op.due = RETRY, now_ms + wait_ms(random.random())
            else:
                fail(
                    op, error or journal.not_met(key), self.host.codecs, retries=retries, started_ms=now_ms, now_ms=now_ms,
                    worker=self.host.child_id, jitter=random.random(),
                )  # fmt: skip
            await self.owned.commit(key, op.pack())
            self.over(key)

    def linger(self, leave: Callable[[], None]) -> None:
        """Have `leave` called unless a further step is taken soon."""
        if self.timer is None:
            self.timer = self.host.loop.call_later(LINGER_S, leave)

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def release(self) -> None:
        """Give back all slots: this process is done with the run."""
        for key in self.keys:
            self.over(key)


Assignment = WholeRun | OfferedSteps
WHOLE_RUN = WholeRun()
