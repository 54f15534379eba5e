"""Execution: one run while this process has it. It drives the parts: the run stays, is suspended, is taken away, or ends.

    claimed ──▶ its handler goes on ──returns──▶ finish: completed
                  │    ▲            ──raises───▶ fail: finish, or retry
                  │    └─────── an operation is resolved while the run stays here
                  ├──no branch can go on──▶ suspend ──▶ leave
                  └──stop(...)──▶ leave: cancelled | fenced off | handed back, once running steps have ended

The parts decide and answer with values; this module, `HandlerCall` and `StepCalls` act on them. The end is `host.released`, once.
References point down: no part knows the driver, so a run is freed without the cyclic garbage collector.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable
from contextvars import Context as ContextVars
from functools import partial
from typing import Any, TypeVar

import orjson

from taskflow.context import run_facts
from taskflow.engine.around import around_of
from taskflow.engine.assignment import WHOLE_RUN, Assignment, OfferedSteps
from taskflow.engine.host import Host
from taskflow.engine.input import RunInput
from taskflow.engine.journal import Journal
from taskflow.engine.lifecycle import ENDINGS, Ending, Lifecycle, Phase
from taskflow.engine.offers import Offers
from taskflow.engine.owned import OwnedRun
from taskflow.engine.parking import Parking
from taskflow.engine.races import Races
from taskflow.engine.slots import RunSlots
from taskflow.engine.tasks.suspension import TaskTree
from taskflow.engine.threads import Threads
from taskflow.engine.trial import Trial
from taskflow.engine.turns import Turns
from taskflow.errors import StoreUnavailable, Suspend
from taskflow.function import Function
from taskflow.observability.failures import describe_error
from taskflow.redis.connection import CommandError
from taskflow.step import is_step_operation
from taskflow.steps.attempt import next_call_ms
from taskflow.store.claimed import ClaimedRun
from taskflow.store.claims import Verdict

logger = logging.getLogger("taskflow.engine")

T = TypeVar("T")


class Execution:
    """One run in this process, or one step of it: see `assignment`. All methods run on the loop's thread."""

    __slots__ = (
        "_offers", "_parking", "_races", "_turns", "around", "assignment", "claimed", "claims", "epoch", "facts", "function",
        "function_id", "host", "id", "in_handler", "input", "is_let_go_on", "journal", "lifecycle", "owned", "run_id",
        "slots", "steps_over", "taken", "threads", "tree", "trial", "was_refused",
    )  # fmt: skip

    def __init__(self, claimed: ClaimedRun, function: Function[Any, Any], host: Host, epoch: int) -> None:
        """`epoch` is the epoch of the lease before the run was claimed."""
        self.claimed = claimed
        self.function = function
        self.host = host
        self.epoch = epoch
        self.run_id: str = claimed.claim.run_id
        self.id = claimed.id
        self.function_id = claimed.function_id
        self.input = RunInput(claimed)
        self.lifecycle = Lifecycle()
        self.journal = Journal(
            claimed.steps, self.run_id, self.function_id, claimed.attempt, function.spec.determinism == "strict", host.config
        )  # fmt: skip
        self.facts = run_facts(self.run_id, self.function_id, claimed.attempt, self.input.event.headers)
        self.owned = OwnedRun(claimed.claim, host, self.facts, claimed.started_ms)
        self.tree = TaskTree(host.loop, on_stuck=self.on_stuck, on_idle=self.on_idle, is_operation=is_step_operation)  # fmt: skip
        self.slots = RunSlots(host.slots, self.tree, has_own=not claimed.step_key)
        # the steps that were offered, which have claims and slots of their own
        self.taken = OfferedSteps(claimed, host, self.tree) if claimed.step_key else None
        self.assignment: Assignment = self.taken or WHOLE_RUN
        self.claims = self.owned if self.taken is None else self.taken.owned
        # Made at their first use, since a short run uses none of them.
        self._turns: Turns | None = None
        self._parking: Parking | None = None
        self._offers: Offers | None = None
        self._races: Races | None = None
        self.threads: Threads | None = None
        if not function.is_async:
            self.threads = Threads(self.tree, self.turns, self.races, pool=host.threads, loop=host.loop)
        most = function.spec.max_crashes or host.config.max_crashes
        self.trial = Trial(claimed.crashes, most, host.trial) if claimed.crashes else None
        # done when nothing executes any more
        self.steps_over: asyncio.Future[None] | None = None
        # The handler goes on; the run is to stop, but not before its code has ended or calls a step tool; it has called one.
        self.in_handler = self.is_let_go_on = self.was_refused = False
        self.around = around_of(function, claimed, self.input, host) if function.is_surrounded else None
        if claimed.steps:
            self.turns.load(*self.journal.story())

    @property
    def turns(self) -> Turns:
        if self._turns is None:
            self._turns = Turns(self.tree, self.host.loop)
        return self._turns

    @property
    def parking(self) -> Parking:
        if self._parking is None:
            self._parking = Parking(self.journal, self.owned, self.tree, self.turns)
        return self._parking

    @property
    def offers(self) -> Offers:
        if self._offers is None:
            is_limited = bool(self.function.spec.flow.concurrency)
            self._offers = Offers(
                self.journal, self.owned, self.parking, self.tree, self.slots, loop=self.host.loop, is_limited=is_limited
            )  # fmt: skip
        return self._offers

    @property
    def races(self) -> Races:
        if self._races is None:
            self._races = Races(self.tree, self.slots)
        return self._races

    @property
    def is_going_on(self) -> bool:
        """False once the run ends, is taken away, or is being unwound here."""
        return self.lifecycle.may_begin_step and not self.tree.suspending

    @property
    def in_body(self) -> bool:
        """Whether the handler has called no step tool, now or before. Rule S4.7."""
        return not self.claimed.steps and not self.journal.next_index

    # --- what executes ---

    def step_begins(self) -> None:
        """Note that a step is about to execute. Raises Suspend when the run is ending."""
        # The run may have been told to stop while the step waited for its slot: it would be cut off and executed again elsewhere.
        if not self.lifecycle.may_begin_step:
            self.refuse_step()
            raise Suspend
        self.slots.begin()

    def on_idle(self) -> None:
        """Go on with leaving or ending: nothing executes any more, no step and no code of a `def` handler."""
        self.slots.lend()
        if self.steps_over is not None and not self.steps_over.done():
            self.steps_over.set_result(None)
        if self.lifecycle.phase is Phase.STOPPING:
            self.leave_if_idle()
        elif self.lifecycle.phase is Phase.OVER:
            self.spawn(self.clear_leftovers())

    async def steps_end(self, *, keep: bool) -> None:
        """Wait until nothing of the run executes; with `keep`, store failed attempts, and what was given up."""
        if self.slots.is_busy:
            self.steps_over = self.host.loop.create_future()
            self.turns.give_up()  # steps whose outcome is stored wait for their turn, and would wait for ever
            await self.steps_over
        if keep:
            await self.store_rest()

    async def store_rest(self) -> None:
        """Store failed attempts, and what was given up. It waits for nothing: code of a `def` handler may go on in its thread."""
        if self.journal.unstored or self.journal.has_given_up:
            await self.proceed(self.parking.store())

    # --- suspending and resuming in place ---

    def on_stuck(self) -> None:
        """Suspend the run if possible: no branch of the handler can go on."""
        if self.lifecycle.phase is Phase.STOPPING:
            self.leave_if_idle()
        if not self.lifecycle.may_begin_step or not self.parking.may_suspend:
            return
        if self.turns.waiting:
            self.turns.skip()
        elif self.taken is not None:
            if self.taken.keys:
                self.spawn(self.miss(None))
            else:
                self.taken.linger(partial(self.stop, Ending.SUSPENDED))
        elif not self.races.revive() and self.journal.pending and self.offers.may_suspend:
            self.spawn(self.suspend(self.parking.suspend()))

    async def suspend(self, suspending: Awaitable[Verdict]) -> None:
        verdict = await suspending
        if verdict is Verdict.DIRTY:  # an operation was resolved meanwhile
            self.offers.go_on()
            await self.proceed(self.parking.fetch())
        self.obey(verdict)

    def store_soon(self) -> None:
        """Store the parked operations after a pause, while other branches may execute on."""
        self.parking.store_soon(self.host.loop, self.store_and_stay)

    def store_and_stay(self) -> None:
        self.parking.close()
        if self.is_going_on and not self.parking.is_suspending and self.journal.unstored:
            self.spawn(self.proceed(self.parking.store()))

    def look(self, key: str = "") -> None:
        """Ask the store for outcomes: this operation, or any, may have been resolved while the run is in memory."""
        self.parking.tell(key)
        if self.is_going_on and self.parking.may_fetch:
            self.spawn(self.proceed(self.parking.fetch()))

    async def proceed(self, asking: Awaitable[Verdict]) -> None:
        self.obey(await asking)
        self.tree.look_again()

    # --- the handler has ended ---

    async def handler_failed(self, error: BaseException) -> None:
        """Have the handler tried again, or end the run."""
        if not self.assignment.is_whole:
            await self.miss(error)
            return
        self.in_handler = False
        if not self.is_going_on and not self.is_let_go_on:
            return
        now_ms, retries = self.host.clock.now_ms(), self.function.spec.retries
        due_ms = next_call_ms(error, retries, self.journal.attempt, now_ms=now_ms, jitter=random.random())
        told = describe_error(error)
        if due_ms is None:
            await self.finish("failed", orjson.dumps(told), error)
        else:
            told |= {"started": self.claimed.claimed_ms, "ended": now_ms, "worker": self.host.child_id}
            await self.retry(orjson.dumps(told), error, due_ms=due_ms, now_ms=now_ms)

    async def retry(self, told: bytes, error: BaseException, *, due_ms: int, now_ms: int) -> None:
        """Give up the run, and have the code between the steps tried again at `due_ms`."""
        self.lifecycle.finishes()
        # Wait for parallel steps that execute: they would be executed once more elsewhere, and what they did now would be lost.
        await self.steps_end(keep=True)
        verdict = await self.owned.retry(
            attempts=self.journal.counted(error), of=self.function.spec.retries.attempts, due_ms=due_ms, error=told, now_ms=now_ms
        )  # fmt: skip
        if verdict is Verdict.CANCEL and self.lifecycle.refused():
            self.leave_if_idle()
            return
        if self.around is not None and verdict is not Verdict.FENCED:
            await self.around.retries(error, due_ms=due_ms, now_ms=now_ms)
        self.conclude()

    async def finish(self, status: str, body: bytes, error: BaseException | None = None) -> None:
        """End the run."""
        assert self.assignment.is_whole, "an offered step does not end its run"
        if not self.lifecycle.finishes():
            return
        if is_limited := bool(self.function.spec.flow.concurrency):
            await self.steps_end(keep=False)  # steps count under limits as long as they execute (S7.1)
        # The slot is free before the end is sent: the claim of the next run then goes out with it.
        if not self.slots.is_busy and not self.tree.has_leftovers:
            self.slots.give_back_own()
            if is_limited:
                self.host.look_for_work(self.function.spec.queue)
        verdict = await self.owned.finish(
            status, body, has_pending=self.journal.may_have_pending(status),
            kept_ms=self.host.config.retention_ms if (keep_ms := self.function.spec.keep_ms) is None else keep_ms,
        )  # fmt: skip
        if verdict is Verdict.CANCEL:
            await self.finish("cancelled", await self.owned.cancel_reason())
            return
        if self.around is not None and verdict is not Verdict.FENCED:
            await self.around.ends(status, error=error, body=body, now_ms=self.host.clock.now_ms())
        self.conclude()

    async def miss(self, error: BaseException | None) -> None:
        """Leave offered steps that the handler did not reach with a failed attempt: the next attempt may reach them."""
        assert self.taken is not None
        await self.steps_end(keep=False)  # of those that execute, their own outcomes count
        # From here on no step can begin any more, even if another branch comes to it.
        if self.tree.suspending or not self.lifecycle.misses():
            return
        await self.taken.miss(self.journal, error, self.function.spec.retries)
        self.stop(Ending.SUSPENDED)

    # --- the run is told to stop ---

    def obey(self, verdict: Verdict) -> None:
        """Stop the run if the store's verdict says so."""
        if verdict in ENDINGS:
            self.stop(ENDINGS[verdict])

    def stop(self, ending: Ending, reason: bytes = b"") -> None:
        """Begin no more steps; leave when the executing steps, or the body, have ended. Safe to repeat. Rule S4.7."""
        if self.lifecycle.told(ending, reason):
            self.leave_if_idle()

    def leave_if_idle(self) -> None:
        """Leave, unless a step executes, or handler code that may first end or call a step. Rule S4.7."""
        self.is_let_go_on = not self.was_refused and self.executes_code
        if not self.slots.is_busy and not self.is_let_go_on:  # else `on_idle` goes on, or that code
            self.spawn(self.leave())
        elif self.lifecycle.ending is Ending.CANCELLED:
            self.host.begin_grace(self.id)

    @property
    def executes_code(self) -> bool:
        """Whether the handler executes its body, or code between two steps that another process would execute once more."""
        is_repeated = self.lifecycle.ending is Ending.HANDED_BACK and self.turns.has_one_in_code
        return self.in_handler and self.assignment.is_whole and (self.in_body or is_repeated)

    def refuse_step(self) -> None:
        """Refuse a step, since the run is to stop: from here on the handler's result does not count."""
        self.was_refused = True
        if self.lifecycle.phase is Phase.STOPPING:
            self.leave_if_idle()

    async def leave(self) -> None:
        """Carry out what `stop` asked for, now that nothing of the run executes any more."""
        if not self.lifecycle.leaves():
            return
        await self.unwind()
        if self.lifecycle.ending is Ending.CANCELLED:
            await self.finish("cancelled", self.lifecycle.reason or await self.owned.cancel_reason())
            return
        if self.lifecycle.ending is Ending.HANDED_BACK:
            await self.store_rest()
            await self.claims.hand_back()
        elif self.lifecycle.ending is Ending.SUSPENDED and self.around is not None:
            await self.around.suspends(self.host.clock.now_ms())
        self.conclude()

    # --- nothing of it stays here ---

    def conclude(self) -> None:
        """Clean up, now that the store knows the outcome of the run. Safe to repeat."""
        if not self.lifecycle.ends():
            return
        if self.trial is not None:
            self.trial.end()
        for part in (self._turns, self._parking, self._offers, self.taken):
            if part is not None:
                part.close()
        if not self.tree.has_leftovers:
            self.tree.close()
            self.release()
        elif not self.slots.is_busy:
            self.spawn(self.clear_leftovers())

    async def clear_leftovers(self) -> None:
        """End the tasks that the handler spawned and that go on after it has returned."""
        await self.unwind()
        self.release()

    async def unwind(self) -> None:
        self.tree.unwind()
        await self.tree.unwound()
        if survivors := len(self.tree.survivors):
            logger.error("run %s: %d tasks go on: they catch Suspend or cancellation", self.run_id, survivors)

    def release(self) -> None:
        """Let go of the run. Only the thread of a `def` handler may be left, whose next step is refused."""
        if self.lifecycle.released():  # not the second time, when another thread has rested meanwhile
            self.host.released(self)
            self.slots.give_back_own()
            if self.taken is not None:
                self.taken.release()

    # --- the engine's own work ---

    def spawn(self, work: Any) -> None:
        """Run engine work outside the handler's task tree."""
        task = self.host.loop.create_task(work, context=ContextVars())
        task.add_done_callback(self.report_bug)

    def report_bug(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.break_down(error)

    def break_down(self, error: BaseException) -> None:
        """Give the run to another process after a failure of the engine. That counts as a crash, so that it can't loop (S9.8)."""
        if isinstance(error, StoreUnavailable):  # this process is closing, and its supervisor hands back
            self.stop(Ending.FENCED)
            return
        logger.error("run %s: the engine failed", self.run_id, exc_info=error)
        if self.lifecycle.breaks():  # False if the claim is gone already
            self.spawn(self.give_away(f"the engine failed: {type(error).__name__}: {error}"))

    async def give_away(self, cause: str) -> None:
        """Hand the run back, as it broke the engine: other processes may try."""
        await self.claims.hand_back(crashed=True, cause=cause)
        self.conclude()

    async def ask(self, reply: Awaitable[T]) -> T:
        """Wait for the store on behalf of a step. A failure of the store reaches the handler as Suspend, not as an error."""
        try:
            return await reply
        except (CommandError, StoreUnavailable) as error:
            self.break_down(error)
            raise Suspend from error
