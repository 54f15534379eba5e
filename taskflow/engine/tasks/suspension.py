"""TaskTree: finds out when no branch of a run can go on, and ends its tasks then. Rules S3.7, S4.3, S4.6.

A `TaskTree` knows every asyncio task that a handler has spawned. Step operations that can't go on now
(sleep, wait, invoke, retry) await a *parked* future. The run is *stuck* once each of its tasks waits only
for parked futures and for other tasks of the tree, directly or through gather, TaskGroup, wait,
as_completed, wait_for or shield. Then `on_stuck` is called; the engine stores the run's state and unwinds
the tree with `Suspend`.

"Stuck" is proved, never guessed. What can't be proved (raw I/O, a Queue, Event, Lock or Semaphore,
asyncio.sleep, a task of somebody else, a cycle of tasks with nothing parked) keeps the run in memory until
that future ends, when it is looked at again. There is no polling: each verdict "not stuck" hangs on a
future, a timer or a task that is about to run, and that brings the next look.

A pending timer of `asyncio.timeout`, or of `wait_for`, `wait` and `as_completed` with a timeout, can let
user code go on by itself, so it keeps the run in memory too, until it fires or is left. Timers that can't be
seen (see `awaiting`) don't, and start anew at the replay.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from typing import Any, NoReturn

from taskflow.engine.tasks.awaiting import AnyFuture, AnyTask, await_chain, pending_timer, wait_behind
from taskflow.engine.tasks.joins import join_groups
from taskflow.engine.tasks.tagging import current_tree
from taskflow.engine.tasks.unwinding import fetch_outcome, settle, throw_suspend, unfinished
from taskflow.errors import Suspend

PRUNE_AT = 64  # tasks in a tree before the first search for those that are done
IDLE_TICKS = 4  # loop iterations in which no task ended before the clock is asked; a level of tasks takes two
MAX_REFUSALS = 100  # steps refused to an unwinding handler before its task is held


class TaskTree:
    """The asyncio tasks of one run. For the loop's thread only.

    `on_stuck` is called from the loop, in the context that made the tree, each time the run gets stuck; `on_idle` from the last
    `leave()`, when nothing executes any more. A closed tree calls neither.
    `is_operation(coro)` says whether a task's coroutine is a step operation without user code: see
    `join_groups`.
    """

    __slots__ = (
        "_check_due", "_context", "_ended", "_held_by", "_is_operation", "_leftovers", "_loop", "_on_idle", "_on_stuck", "_parked",
        "_prune_at", "_refusals", "_settling", "_tasks", "_timer", "_watched",
        "births", "executing", "is_settling", "root", "stuck", "survivors", "suspending", "tools",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        on_stuck: Callable[[], object],
        on_idle: Callable[[], object] | None = None,
        is_operation: Callable[[Any], bool] | None = None,
    ) -> None:
        self._loop = loop
        self._on_stuck = on_stuck
        self._on_idle = on_idle or do_nothing
        self._is_operation = is_operation
        # Callbacks run in this context. In that of the task that happens to register one, a task that
        # `on_stuck` spawns would become part of the run.
        self._context = copy_context()
        self._tasks: dict[AnyTask, int] = {}  # and their births: parents before children
        # All but the handler's own, less some that were found done: each is looked at once, however many there are. None while
        # there were none, as in most runs.
        self._leftovers: deque[AnyTask] | None = None
        self._parked: dict[AnyFuture, None] = {}  # not done yet, oldest first
        self._watched: set[AnyFuture] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._held_by: AnyTask | None = None
        self._settling: AnyTask | None = None
        self._ended: AnyFuture | None = None
        self._prune_at = PRUNE_AT
        self._refusals = 0
        self._check_due = False
        self.root: AnyTask | None = None
        self.tools: object = None
        """The step tools of the run, for code in it that was not given them."""
        self.births = 0
        """How many tasks were spawned."""
        self.executing = 0
        """How many steps execute now."""
        self.is_settling = False
        """Whether an outcome is about to let a branch go on; until `settled()` the tree does not check whether the run is stuck."""
        self.stuck = False
        """Whether nothing has moved since `on_stuck` was called."""
        self.suspending = False
        """Whether the tree unwinds; a step that is called now must only `await refuse()`."""
        self.survivors: list[AnyTask] = []
        """Tasks that did not end, though Suspend was raised in them and they were cancelled."""

    def start(self, coro: Coroutine[Any, Any, Any]) -> AnyTask:
        """Spawn the handler's task; every task spawned under it belongs to the tree."""
        token = current_tree.set(self)
        try:
            self.root = root = self._loop.create_task(coro)
        finally:
            current_tree.reset(token)
        if len(self._tasks) > 1:  # those of an eager task came before it
            self._leftovers = deque(task for task in self._tasks if task is not root)
        if root not in self._tasks:
            root.cancel()
            raise RuntimeError("the loop doesn't tag its tasks: call install_task_factory(loop) first")
        return root

    def parked(self) -> AnyFuture:
        """A future for an operation that can't go on now; creating one schedules a look at the run.

        `set_result` and `set_exception` let the operation go on in memory. Raises Suspend while the tree
        unwinds.
        """
        if self.suspending:
            raise Suspend
        future = self._loop.create_future()
        self._parked[future] = None
        future.add_done_callback(self._unpark, context=self._context)
        self.stuck = False
        self.check_soon()
        return future

    def enter(self) -> None:
        """Note that a step's function begins to execute: the run isn't stuck until `leave()`.

        The commit that follows belongs inside too. Raises Suspend while the tree unwinds.
        """
        if self.suspending:
            raise Suspend
        self.executing += 1
        self.stuck = False

    def leave(self) -> None:
        """Note that the step's function has ended. Call it once for each `enter()`, from any task."""
        self.executing -= 1
        if self.executing:
            return
        # First what lets a branch go on, then the look whether any can.
        self._on_idle()
        if self._parked and not self.suspending:
            self.check_soon()

    def hold(self) -> None:
        """As `enter()`, but never refused: a handler's thread goes on with its own code, and has to unwind too."""
        self.executing += 1
        self.stuck = False

    def settles(self) -> None:
        """Note that an outcome is on its way to a branch, until `settled()`. This spares a look at all tasks for each outcome."""
        self.is_settling = True

    def settled(self) -> None:
        self.is_settling = False
        if self._parked and not self.suspending:
            self.check_soon()

    @property
    def is_single(self) -> bool:
        """Whether the handler's own task is the only one."""
        return not self.has_leftovers

    @property
    def root_goes_on(self) -> bool:
        """Whether the handler's own task executes, or awaits something that isn't parked."""
        return self.root is not None and not self.root.done() and not self._rests(self.root)

    @property
    def has_leftovers(self) -> bool:
        """Whether tasks besides the handler's are unfinished."""
        leftovers = self._leftovers
        while leftovers and leftovers[0].done():
            leftovers.popleft()
        return bool(leftovers)

    def close(self) -> None:
        """The handler has returned, or all its tasks were ended: let go of everything, without a turn of the loop.

        The tasks' contexts hold the tree, and a cycle would outlive the run until the collector comes.
        """
        self.suspending = True
        for task in self._tasks:
            if task.done():
                fetch_outcome(task)
        for future in self._watched or ():
            future.remove_done_callback(self._unwatch)
        if self._timer is not None:
            self._timer.cancel()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        self._tasks, self._parked = {}, {}
        self._watched = self._leftovers = self._timer = self._held_by = self._settling = self.root = (
            self.tools
        ) = None
        self._on_stuck = self._on_idle = do_nothing

    @property
    def held_by(self) -> AnyTask | None:
        """The task that kept the run from being stuck at the last look, for diagnostics (S10.5)."""
        return self._held_by

    def owns(self, task: AnyTask) -> bool:
        return task in self._tasks

    def check_soon(self) -> None:
        """Look at the end of this loop iteration whether the run is stuck."""
        if not self._check_due:
            self._check_due = True
            self._loop.call_soon(self._check, context=self._context)

    def look_again(self) -> None:
        """Call `on_stuck` again if the run is still stuck: the engine could not suspend it before, and now can."""
        self.stuck = False
        if not self.suspending:
            self.check_soon()

    def join_groups(self) -> list[set[AnyFuture]]:
        """Sets of parked futures that only let user code go on together, when all of a set have succeeded.

        They hold while the run is stuck. A failure lets user code go on at once. A future in no set lets user code go on by itself,
        or can't be proved not to.
        """
        if self._is_operation is None:
            return []
        return join_groups(self._tasks, self._parked, self._is_operation)

    async def refuse(self) -> NoReturn:
        """Raise Suspend, in a step that is called while the tree unwinds.

        User code that catches everything and tries again for ever would block the loop if it met Suspend at
        once each time: after a while it is made to wait, and is cancelled.
        """
        self._refusals += 1
        if self._refusals > MAX_REFUSALS:
            await self._loop.create_future()
        raise Suspend

    def unwind(self, *, grace_s: float = 5.0) -> None:
        """End all tasks of the tree: with Suspend where they wait for what is parked, else by cancelling.

        Returns at once; `unwound()` waits. `finally` blocks run, but get no step. Tasks that still run after
        `grace_s` seconds (user code that catches Suspend, slow clean-up) are cancelled, three times at most,
        and become `survivors` if that doesn't help. May be called by the handler's own task too, which then
        ends by itself, and for what a finished handler has left behind. The second call does nothing.

        A TaskGroup's body that waits for a member of its group meets CancelledError, not Suspend: so
        TaskGroup does when a member fails.
        """
        if self.suspending:
            return
        self.suspending = True
        self.stuck = False
        # Errors of tasks that were over before are the user's: asyncio reports those that nobody has fetched. Suspend is ours.
        for task in self._tasks:
            if task.done() and isinstance(task._exception, Suspend):
                fetch_outcome(task)
        self._tasks = {task: birth for task, birth in self._tasks.items() if not task.done()}
        caller = asyncio.current_task(self._loop)
        if self._tasks:
            youngest_first = sorted(self._tasks, key=self._tasks.__getitem__, reverse=True)
            throw_suspend([task for task in youngest_first if task is not caller], list(self._parked))
        if self._tasks and (len(self._tasks) > 1 or caller not in self._tasks):
            self._loop.call_soon(self._reap, len(self._tasks), IDLE_TICKS, grace_s, context=self._context)
        else:
            self.close()

    async def unwound(self) -> list[AnyTask]:
        """Wait, from outside the tree, until `unwind()` has ended; return the survivors."""
        if not self.suspending:
            raise RuntimeError("the tree isn't being unwound: call unwind() first")
        if self._tasks:
            self._ended = self._ended or self._loop.create_future()
            await asyncio.shield(self._ended)
        return self.survivors

    def adopt(self, task: AnyTask, birth: int) -> None:
        """Add a task that was spawned under the tree. The loop's task factory calls this."""
        tasks = self._tasks
        if len(tasks) >= self._prune_at and not self.suspending:
            self._tasks = tasks = {other: born for other, born in tasks.items() if not other.done()}
            self._prune_at = PRUNE_AT + 2 * len(tasks)
            self._leftovers = deque(other for other in self._leftovers or () if not other.done())
        tasks[task] = birth
        if self.root is not None:
            if self._leftovers is None:
                self._leftovers = deque()
            self._leftovers.append(task)
        if self._parked and not self.suspending:
            self.stuck = False
            self.check_soon()

    def _unpark(self, future: AnyFuture) -> None:
        self._parked.pop(future, None)
        if not self.suspending:
            self.stuck = False
            self.check_soon()

    def _check(self) -> None:
        self._check_due = False
        if self.executing or self.is_settling or self.suspending or not self._parked:
            return
        if self.root is None or self.root.done():
            return
        held_by = self._held_by
        if held_by is not None and not held_by.done() and not self._rests(held_by):
            return
        self._held_by = None
        for task in self._tasks:
            if not task.done() and not self._rests(task):
                self._held_by = task
                self.stuck = False
                return
        if not self.stuck and any(not future.done() for future in self._parked):
            self.stuck = True
            self._on_stuck()

    def _rests(self, task: AnyTask) -> bool:
        """Whether only the tree and parked futures let `task` go on. If not, see to the next look."""
        waiter: AnyFuture | None = task._fut_waiter  # type: ignore[attr-defined]
        if waiter is None or waiter.done():
            self.check_soon()  # the task runs in this loop iteration or the next
            return False
        chain = await_chain(task)
        timer = pending_timer(chain)
        if timer is not None:
            self._watch(waiter)
            self._look_at(timer.when())
            return False
        return waiter in self._parked or waiter in self._tasks or self._rests_inside(waiter, chain)

    def _rests_inside(self, waiter: AnyFuture, chain: Sequence[Any]) -> bool:
        """`_rests` for a task that awaits something made of other futures."""
        nodes, seen = [waiter], {waiter}
        for node in nodes:  # grows meanwhile
            wait = wait_behind(node, chain if node is waiter else (), (self._tasks, self._parked))
            if wait is not None and wait.moving:
                self.check_soon()
                return False
            if wait is None or wait.timer is not None:
                # Each of these can change the verdict when it ends, not only the last: they lead to it.
                for future in nodes:
                    self._watch(future)
                if wait is not None and wait.timer is not None:
                    self._look_at(wait.timer.when())
                return False
            for member in wait.members:
                if member not in self._parked and member not in self._tasks and member not in seen:
                    seen.add(member)
                    nodes.append(member)
        return True

    def _watch(self, future: AnyFuture) -> None:
        if self._watched is None:
            self._watched = set()
        if future not in self._watched:
            self._watched.add(future)
            future.add_done_callback(self._unwatch, context=self._context)

    def _unwatch(self, future: AnyFuture) -> None:
        if self._watched is not None:
            self._watched.discard(future)
        self.check_soon()

    def _look_at(self, when: float) -> None:
        """Look again when the loop's clock reads `when`: a timer of user code fires then."""
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._timer_fired, context=self._context)

    def _timer_fired(self) -> None:
        self._timer = None
        self.check_soon()

    def _reap(self, before: int, idle: int, grace_s: float) -> None:
        """Let loop iterations pass while tasks end in them; what is left then needs time."""
        left = len(unfinished(self._tasks))
        idle = IDLE_TICKS if left < before else idle - 1
        if left and idle:
            self._loop.call_soon(self._reap, left, idle, grace_s, context=self._context)
        elif left:
            self._settling = self._loop.create_task(self._settle(grace_s))
        else:
            self.close()

    async def _settle(self, grace_s: float) -> None:
        self.survivors = await settle(self._tasks, grace_s=grace_s)
        self.close()


def do_nothing() -> None:
    """The callback of a closed tree for being stuck, or idle."""
