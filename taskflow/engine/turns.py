"""Turns: keeps the order in which outcomes reach the handler. Rules S3.8, S4.1, S4.5.

A replay must go as before. If branches run side by side, the outcome that the handler gets first decides what it does next, and so
which call of a repeated step id comes first. So outcomes are delivered one at a time, each after the handler had time to act on the
last one. Their order is stored, and a replay keeps it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from taskflow.engine.tasks.suspension import TaskTree
from taskflow.errors import Suspend

# Loop iterations between two outcomes: enough for a finished task to tell a gather, for the gather to wake its awaiter, and for the
# awaiter to go on. A handler with a single task needs none.
SETTLING_ITERATIONS = 4
# How long an outcome waits for the one that came before it in the last execution, if raw I/O of the handler hides whether the
# handler will still ask for that one. Only changed code pays for this; a busy machine needs it.
PATIENCE_S = 0.05


class Turns:
    """The turns of the outcomes of one run. For the loop's thread only."""

    __slots__ = (
        "code_in_threads", "expected", "live", "loop", "next_order", "settling", "skipped", "timer", "tree", "waiting",
        "when_quiet",
    )  # fmt: skip

    def __init__(self, tree: TaskTree, loop: asyncio.AbstractEventLoop) -> None:
        self.tree = tree
        self.loop = loop
        self.expected: deque[str] = deque()  # step keys of outcomes that the handler has not seen yet
        self.live: set[str] = set()  # the new ones among them, for which somebody will ask
        # Outcomes that were passed over, in order: their steps are gone, or come later than before.
        self.skipped: dict[str, None] = {}
        self.waiting: dict[str, asyncio.Future[None]] = {}
        self.next_order = 0
        self.settling = 0  # loop iterations until the next outcome
        self.timer: asyncio.TimerHandle | None = None
        self.code_in_threads = 0  # threads of a `def` handler that run its code, outside its steps
        self.when_quiet: asyncio.Future[None] | None = None

    def load(self, keys: Iterable[str], next_order: int) -> None:
        """Set the outcomes that the handler got before, in order; `next_order` is the place of the first new outcome."""
        self.expected.extend(keys)
        self.next_order = next_order

    def expect(self, key: str) -> int:
        """Note that a new outcome is on its way to the handler; return its place in the order."""
        self.expected.append(key)
        self.live.add(key)
        order = self.next_order
        self.next_order += 1
        return order

    async def take(self, key: str) -> None:
        """Wait until it is this outcome's turn."""
        if self.tree.is_single and self.is_next(key):
            self.advance(key)
            return
        future = self.tree.parked()
        self.waiting[key] = future
        if not self.settling:
            self.start_settling()
        self.be_patient()
        try:
            await future
        except BaseException:  # the branch lost a race, or the run ends
            self.waiting.pop(key, None)
            self.forget(key)
            raise

    def forget(self, key: str) -> None:
        """Note that an expected outcome does not come."""
        self.live.discard(key)
        if key in self.expected:
            self.expected.remove(key)
        if self.waiting and not self.settling:
            self.start_settling()

    def is_next(self, key: str) -> bool:
        return not self.expected or self.expected[0] == key or key in self.skipped

    def advance(self, key: str) -> None:
        """Note that the handler gets the outcome of `key` now."""
        self.live.discard(key)
        if self.expected and self.expected[0] == key:
            self.expected.popleft()
        self.skipped.pop(key, None)

    def start_settling(self) -> None:
        """Let the branches do all they can before the next outcome."""
        self.settling = SETTLING_ITERATIONS
        self.tree.settles()
        self.loop.call_soon(self.settle)

    def settle(self) -> None:
        self.settling -= 1
        if self.settling > 0:
            self.loop.call_soon(self.settle)
            return
        self.settling = 0
        if not self.code_in_threads:  # else `thread_rests` goes on
            self.deliver_next()
        if not self.settling:
            self.tree.settled()

    @property
    def has_one_in_code(self) -> bool:
        """Whether the handler has no open branches, and executes code outside of steps."""
        threads, tree = self.code_in_threads, self.tree
        return tree.is_single and tree.executing == threads and (threads == 1 or tree.root_goes_on)

    def thread_runs(self) -> None:
        """Note that a thread goes on with the handler's code: its next call comes before any other outcome."""
        self.code_in_threads += 1

    def thread_rests(self) -> None:
        """Note that a thread waits for a step, or has ended."""
        self.code_in_threads -= 1
        if self.code_in_threads:
            return
        if self.when_quiet is not None and not self.when_quiet.done():
            self.when_quiet.set_result(None)
        if self.waiting and not self.settling:
            self.start_settling()

    async def quiet(self) -> None:
        """Wait until no thread runs the handler's code."""
        if self.code_in_threads:
            self.when_quiet = self.tree.parked()
            await self.when_quiet

    def find_next(self) -> str | None:
        """The outcome, of those that somebody waits for, that came first in the last execution; None if it is to be waited for."""
        late = next((key for key in self.skipped if key in self.waiting), None)
        if late is not None:
            return late
        if self.expected and self.expected[0] in self.waiting:
            return self.expected[0]
        return next((key for key in self.waiting if self.is_next(key)), None)

    def deliver_next(self) -> None:
        key = self.find_next()
        if key is None:
            return
        future = self.waiting.pop(key)
        self.advance(key)
        if not future.done():
            future.set_result(None)
        if self.waiting:
            self.start_settling()
            self.be_patient(anew=True)

    def skip(self) -> None:
        """Pass over outcomes for which nobody asks, and deliver the first for which somebody waits."""
        while self.waiting and self.expected and self.expected[0] not in self.waiting:
            if self.expected[0] in self.live:
                return
            self.skipped[self.expected.popleft()] = None
        if not self.settling and not self.code_in_threads:
            self.deliver_next()

    def give_up(self) -> None:
        """Raise Suspend in all waits for a turn, since the handler has ended."""
        for future in list(self.waiting.values()):
            if not future.done():
                future.set_exception(Suspend())

    def be_patient(self, *, anew: bool = False) -> None:
        if self.timer is not None and anew:
            self.timer.cancel()
            self.timer = None
        if self.timer is None:
            self.timer = self.loop.call_later(PATIENCE_S, self.patience_is_over)

    def patience_is_over(self) -> None:
        self.timer = None
        # While outcomes settle or threads run, the handler still goes on, however slow the machine is.
        if not self.settling and not self.code_in_threads:
            self.skip()
        if self.waiting:
            self.be_patient()

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
