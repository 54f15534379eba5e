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
    """The slots of one run, and what executes in them: steps, and code of a `def` handler.

    Its own slot serves one step after the other: when nothing executes, the first step that waits for a slot gets it.
    """

    __slots__ = ("busy", "extras", "has_own", "held", "lent", "slots", "tree")

    def __init__(self, slots: Slots, tree: TaskTree, *, has_own: bool = True) -> None:
        """The run's own slot was set aside when it was claimed. It has none here while only offered steps of it execute."""
        self.slots = slots
        self.tree = tree
        self.has_own = has_own
        # the slots of steps that execute beside another, and slots that were asked for, in order
        self.extras: dict[asyncio.Future[None], None] = {}
        # which of them is the run's own slot
        self.lent: asyncio.Future[None] | None = None
        # tasks that execute a step now, and those of them that do so in an extra slot
        self.busy: set[asyncio.Future[object] | None] = set()
        self.held: dict[asyncio.Future[object] | None, asyncio.Future[None]] = {}

    @property
    def is_busy(self) -> bool:
        """Whether anything of the run executes."""
        return self.tree.executing > 0

    @property
    def is_own_taken(self) -> bool:
        """Whether a further step needs a slot of its own: another one executes, or is about to, in the slot of the run."""
        return self.tree.executing > 0 or self.lent is not None

    def begin(self) -> None:
        """Note that a step is about to execute in the current task. Raises Suspend while the run is unwound."""
        self.tree.enter()
        self.busy.add(asyncio.current_task())

    def occupy(self, extra: asyncio.Future[None]) -> None:
        """Note that the step of the current task executes in this slot, which `end` then gives back."""
        self.held[asyncio.current_task()] = extra

    def end(self) -> None:
        """Note that the step of the current task has ended, and that its outcome is stored or given up. Safe to repeat."""
        task = asyncio.current_task()
        if task not in self.busy:
            return
        self.busy.remove(task)
        if (extra := self.held.pop(task, None)) is not None:
            self.give_back(extra)
        self.tree.leave()

    def extra(self, asked: asyncio.Future[None] | None = None) -> asyncio.Future[None]:
        """Ask for one more slot, for a step that executes beside another; the future is done when there is one."""
        asked = asked or self.slots.ask()
        self.extras[asked] = None
        return asked

    def lend(self) -> None:
        """Lend the run's own slot, if nothing executes in it, to the first step that waits for one."""
        if not self.extras or not self.has_own or self.is_own_taken or self.tree.suspending:
            return
        self.lent = next((extra for extra in self.extras if not extra.done()), None)
        if self.lent is not None:
            self.lent.set_result(None)

    def give_back(self, extra: asyncio.Future[None]) -> None:
        """Give back the slot of a parallel step, whether it came already or not. Safe to repeat."""
        if extra not in self.extras:
            return
        del self.extras[extra]
        if extra is self.lent:
            self.lent = None
            self.lend()
        elif not extra.cancel():
            self.slots.give_back()

    def give_back_own(self) -> None:
        """Give back the run's own slot. Safe to repeat."""
        if self.has_own:
            self.has_own = False
            self.slots.give_back()
