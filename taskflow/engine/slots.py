"""Slots: limit how much a process executes at one time. Rules S4.3, S4.4.

Each run in the process holds a slot, and so does each further step that a run executes beside another. A slot is given back once:
when all runs have left, all slots are free again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from taskflow.engine.tasks.suspension import TaskTree


class Slots:
    """The slots of one process."""

    __slots__ = ("count", "free", "loop", "on_free", "waiters")

    def __init__(
        self, count: int, loop: asyncio.AbstractEventLoop, *, on_free: Callable[[], None] | None = None
    ) -> None:
        """`on_free` is called when a slot comes free for which no step here waits."""
        self.count = count
        self.free = count
        self.loop = loop
        self.on_free = on_free
        # parallel steps that wait for a slot, in order
        self.waiters: deque[asyncio.Future[None]] = deque()

    def reserve(self, wanted: int) -> int:
        """Set up to `wanted` free slots aside for runs that are to be claimed; return how many."""
        count = min(wanted, self.free)
        self.free -= count
        return count

    def give_back(self, count: int = 1) -> None:
        """Give slots back; steps that wait get them first."""
        if not count:
            return
        self.free += count
        while self.waiters and self.free > 0:
            waiter = self.waiters.popleft()
            if not waiter.done():
                self.free -= 1
                waiter.set_result(None)
        if self.free > 0 and self.on_free is not None:
            self.on_free()

    def ask(self) -> asyncio.Future[None]:
        """Ask for a slot for one more step; the future is done when there is one. See `RunSlots.give_back`."""
        waiter: asyncio.Future[None] = self.loop.create_future()
        if self.free > 0:
            self.free -= 1
            waiter.set_result(None)
        else:
            self.waiters.append(waiter)
        return waiter


class RunSlots:
    """The slots of one run, and what executes in them: steps, and code of a `def` handler."""

    __slots__ = ("busy", "extras", "has_own", "slots", "tree")

    def __init__(self, slots: Slots, tree: TaskTree) -> None:
        """The run's own slot was set aside when it was claimed."""
        self.slots = slots
        self.tree = tree
        self.has_own = True
        # the slots of steps that execute beside another, and slots that were asked for
        self.extras: set[asyncio.Future[None]] = set()
        # tasks that execute a step now
        self.busy: set[asyncio.Future[object] | None] = set()

    @property
    def is_busy(self) -> bool:
        """Whether anything of the run executes; then a further step needs a slot of its own."""
        return self.tree.executing > 0

    def begin(self) -> None:
        """Note that a step is about to execute in the current task. Raises Suspend while the run is unwound."""
        self.tree.enter()
        self.busy.add(asyncio.current_task())

    def end(self) -> None:
        """Note that the step of the current task has ended, and that its outcome is stored or given up."""
        self.busy.discard(asyncio.current_task())
        self.tree.leave()

    def extra(self, asked: asyncio.Future[None] | None = None) -> asyncio.Future[None]:
        """Ask for one more slot, for a step that executes beside another; the future is done when there is one."""
        asked = asked or self.slots.ask()
        self.extras.add(asked)
        return asked

    def give_back(self, extra: asyncio.Future[None]) -> None:
        """Give back the slot of a parallel step, whether it came already or not. Safe to repeat."""
        if extra not in self.extras:
            return
        self.extras.remove(extra)
        if not extra.cancel():
            self.slots.give_back()

    def give_back_own(self) -> None:
        """Give back the run's own slot. Safe to repeat."""
        if self.has_own:
            self.has_own = False
            self.slots.give_back()
