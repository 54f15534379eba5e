"""Executor: claims ready runs for the free slots of a process, executes them, and gives them back.

It looks for work only when there is a reason: a work message came, a run that was routed here found no slot, or the last look left
ready runs behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import Context as ContextVars
from typing import Any, NamedTuple, Protocol

from taskflow.config import Config
from taskflow.dependencies.scopes import Lasting
from taskflow.engine.execution import Execution
from taskflow.engine.grace import cut_off, is_over_due
from taskflow.engine.handler_call import HandlerCall
from taskflow.engine.lifecycle import Ending
from taskflow.engine.owned import job_id
from taskflow.engine.slots import Slots
from taskflow.engine.thread_pool import ThreadPool
from taskflow.errors import StoreUnavailable
from taskflow.function import Function
from taskflow.observability.meter import Meter
from taskflow.observability.run_log import life_level
from taskflow.redis.scripts import Answer
from taskflow.store.claimed import ClaimedRun, ClaimReply, OfferedStep
from taskflow.store.hints import Hint, WorkHint
from taskflow.store.keys import SEPARATOR
from taskflow.store.lease import LEASE_LOST, Lease
from taskflow.store.store import Store
from taskflow.values.clock import Clock

logger = logging.getLogger("taskflow.engine")

PASS_ON_S = 0.05
CLAIM_BATCH = 100  # the most runs in one call of the script, so that it stays short


class SentClaim(NamedTuple):
    """A claim that is on its way."""

    queue: str
    limit: int  # how many slots are set aside for it
    epoch: int  # the epoch of the lease before it was sent
    reply: Answer[ClaimReply]


class Messenger(Protocol):
    """Sends the executor's messages to the broker. No method blocks; the messenger logs and survives failures itself."""

    def send_work(self, hints: Sequence[Hint]) -> None: ...

    async def publish_events(self, events: Sequence[bytes]) -> None: ...


class Executor:
    """Executes runs in one process: the `Host` of executions, and the `RunTaker` of the router."""

    def __init__(
        self,
        *,
        store: Store,
        functions: Mapping[str, Function[Any, Any]],
        queues: Sequence[str],
        config: Config,
        clock: Clock,
        child_id: str,
        concurrency: int,
        lease: Lease,
        messenger: Messenger,
        threads: ThreadPool,
        on_abandoned: Callable[[str], None],
        grace_s: float,
        meter: Meter | None = None,
    ) -> None:
        """`grace_s` is how long the code of a cancelled run may take to end."""
        self.loop = asyncio.get_running_loop()
        self.store = store
        self.claims = store.claims
        self.codecs = store.codecs
        self.blob_owners = store.blob_owners
        self.refusals = store.refusals
        self.registry = store.registry
        self.functions = functions
        self.queues = tuple(queues)
        self.config = config
        self.clock = clock
        self.child_id = child_id
        self.lease = lease
        self.messenger = messenger
        self.threads = threads
        self.dependencies = Lasting(threads)
        self.trial = asyncio.Lock()
        self.on_abandoned = on_abandoned
        self.grace_s = grace_s
        self.graces: dict[str, asyncio.TimerHandle] = {}  # of cancelled runs whose code goes on
        self.life_level = life_level()
        self.meter = meter
        self.slots = Slots(concurrency, self.loop, on_free=self.slot_is_free)
        # by run, and those of offered steps by run and the fence of the first
        self.executions: dict[str, Execution] = {}
        # Of runs that are replayed here for offered steps, the latest.
        self.replayed: dict[str, Execution] = {}
        self.unknown: dict[str, None] = {}  # functions that this code base does not have
        self.others_have = False  # whether other workers have some of these
        self.wanted: dict[str, bool] = {}  # queues that may have work -> whether a work message said so
        self.is_claiming = self.is_draining = False
        self.on_slot_free: Callable[[], None] | None = None
        self.on_unknown: Callable[[], None] | None = None  # a run of a function of other code came
        self.idle = asyncio.Event()
        self.idle.set()

    # --- slots ---

    def reserve(self, wanted: int) -> int:
        return 0 if self.is_draining else self.slots.reserve(wanted)

    def unreserve(self, count: int) -> None:
        self.slots.give_back(count)

    def slot_is_free(self) -> None:
        if self.wanted:
            self.claim_soon()
        if self.on_slot_free is not None:
            self.on_slot_free()

    # --- claiming ---

    def look_for_work(self, queue: str, *, by_hint: bool = False) -> None:
        """Claim ready runs of this queue as soon as a slot is free.

        A queue that is not served here is left to others: a run may have been sent to another queue than its function's.
        """
        if queue not in self.queues:
            return
        self.wanted[queue] = by_hint or self.wanted.get(queue, False)
        self.claim_soon()

    def claim_soon(self) -> None:
        """Claim in the next turn of the loop, for all slots that come free in this one.

        It is called before a run's end is sent, so that the claim goes out with the end: one round trip, not two.
        """
        if not self.is_claiming and self.can_claim:
            self.is_claiming = True
            self.loop.call_soon(self.start_claiming, context=ContextVars())

    @property
    def can_claim(self) -> bool:
        return bool(self.wanted) and self.slots.free > 0 and not self.is_draining

    def start_claiming(self) -> None:
        self.spawn(self.claim_wanted(self.send_claim()))

    async def claim_wanted(self, sent: SentClaim | None) -> None:
        try:
            while sent is not None or self.can_claim:
                if sent is not None:
                    await self.take_claimed(sent)
                # the process was paused, or the store is away: runs that we claim now may be taken away
                else:
                    await asyncio.sleep(0.1)
                sent = self.send_claim()
        finally:
            self.is_claiming = False

    def send_claim(self) -> SentClaim | None:
        """Send the claim of the best runs of a wanted queue; None if no queue is wanted, or nothing may be claimed now."""
        if not self.can_claim or not self.lease.is_valid():
            return None
        queue = next(iter(self.wanted))
        by_hint = self.wanted.pop(queue)
        limit = self.reserve(CLAIM_BATCH)
        reply = self.claims.claim(
            self.child_id, self.config.app_id, queue, limit=limit, by_hint=by_hint, unknown=self.unknown,
            replayed=self.replayed, now_ms=self.clock.now_ms(),
        )  # fmt: skip
        return SentClaim(queue, limit, self.lease.epoch, reply)

    async def take_claimed(self, sent: SentClaim) -> None:
        started = 0
        try:
            reply = await sent.reply
            is_held = not (reply.runs or reply.steps) or self.lease.is_valid(epoch=sent.epoch)
            epoch = sent.epoch if is_held else LEASE_LOST
            for run in reply.runs:
                started += 1 + len(run.further_steps)
                self.start(run, epoch)
            for step in reply.steps:
                started += 1
                self.take(step, epoch)
        finally:
            self.unreserve(sent.limit - started)
        if reply.has_more:
            self.wanted.setdefault(sent.queue, False)
        if reply.hints:
            self.messenger.send_work(reply.hints)  # for other processes: this one takes what it can anyway
        if reply.is_for_others and self.others_have:
            # The message may reach another process that can't use it, or come back here.
            self.loop.call_later(PASS_ON_S, self.pass_on, sent.queue)

    def pass_on(self, queue: str) -> None:
        if not self.is_draining:
            self.messenger.send_work([WorkHint(self.config.app_id, queue)])

    def start(self, claimed: ClaimedRun, epoch: int) -> None:
        """Execute a run that was claimed in the lease's `epoch`; its slot is set aside already.

        With LEASE_LOST the run is handed back: this process was paused since, so another one may execute it by now (S4.7, S9.4).
        """
        run_id = claimed.claim.run_id
        jobs = [job_id(run_id, key) for key in claimed.step_fences] if claimed.step_key else [run_id]
        function = self.functions.get(claimed.function_id)
        if function is None:
            if claimed.function_id not in self.unknown:
                self.unknown[claimed.function_id] = None
                logger.info(
                    "%s has ready runs, but this worker's code has no such function; they are left to other workers",
                    claimed.function_id,
                )
                if self.on_unknown is not None:
                    self.others_have = True  # until it is known better
                    self.on_unknown()
            self.refuse(jobs)
            return
        known = None if claimed.step_key else self.executions.get(run_id)
        if known is not None:
            if known.owned.claim.fence == claimed.claim.fence:  # a second reply: the command was sent twice
                self.unreserve(1)
                return
            known.stop(Ending.FENCED)
        if self.is_draining or epoch == LEASE_LOST:  # the reply was on its way when that began
            self.refuse(jobs)
            return
        execution = Execution(claimed, function, self, epoch)
        if self.meter is not None and claimed.claimed_ms == claimed.started_ms and not claimed.step_key:
            could_ms = max(claimed.created_ms, execution.input.event_obj.get("due", 0))
            self.meter.run_started(claimed.function_id, claimed.cause, claimed.claimed_ms - could_ms)
        if not self.executions:
            self.idle.clear()
        self.executions[execution.id] = execution
        if claimed.step_key:
            self.replayed[run_id] = execution
        HandlerCall(execution).start()

    def take(self, step: OfferedStep, epoch: int) -> None:
        """Execute a further step of a run that is replayed here; its slot is set aside already."""
        run = self.replayed.get(step.run_id)
        is_wanted = run is not None and run.is_going_on and not self.is_draining and epoch != LEASE_LOST
        if not is_wanted or run is None or run.taken is None or not run.taken.take(step):
            # The next claim of such a step brings what the store knows by then.
            self.replayed.pop(step.run_id, None)
            self.refuse([job_id(step.run_id, step.step_key)])

    def refuse(self, jobs: Sequence[str]) -> None:
        """Hand back what was claimed, and give up the slots that are set aside for it."""
        self.spawn(self.hand_back(jobs))
        self.unreserve(len(jobs))

    def released(self, execution: object) -> None:
        assert isinstance(execution, Execution)
        if self.executions.get(execution.id) is execution:
            del self.executions[execution.id]
            if (grace := self.graces.pop(execution.id, None)) is not None:
                grace.cancel()
            if not self.executions:
                self.idle.set()
        if self.replayed.get(execution.run_id) is execution:
            del self.replayed[execution.run_id]
        if execution.lifecycle.ending is Ending.HANDED_BACK and not self.is_draining:
            # Its function was paused. Others may use the places that it had under its limits, but nobody is told of these.
            for queue in self.queues:
                self.look_for_work(queue)

    async def hand_back(self, run_ids: Sequence[str]) -> None:
        _, hints = await self.claims.hand_back(
            self.child_id, run_ids, crashed=False, cause="", now_ms=self.clock.now_ms()
        )
        self.send_hints(hints)

    # --- messages ---

    def send_hints(self, hints: Sequence[Hint]) -> None:
        """Take ready runs of these queues here if slots are free, else tell other processes. Events are always sent."""
        others = []
        for hint in hints:
            if (
                isinstance(hint, WorkHint)
                and hint.app_id == self.config.app_id
                and hint.queue in self.queues
                and self.slots.free > 0
                and not self.is_draining
            ):
                self.look_for_work(hint.queue, by_hint=True)
            else:
                if (
                    isinstance(hint, WorkHint)
                    and hint.app_id == self.config.app_id
                    and hint.queue in self.queues
                ):
                    self.wanted.setdefault(hint.queue, False)
                others.append(hint)
        if others:
            self.messenger.send_work(others)

    async def publish_events(self, events: Sequence[bytes]) -> None:
        await self.messenger.publish_events(events)

    def begin_grace(self, execution_id: str) -> None:
        if execution_id not in self.graces:
            self.graces[execution_id] = self.loop.call_later(self.grace_s, self.end_grace, execution_id)

    def end_grace(self, execution_id: str) -> None:
        run = self.executions.get(execution_id)
        if run is not None and is_over_due(run):
            run.spawn(cut_off(run))

    def abandon_thread(self, reason: str) -> None:
        self.on_abandoned(reason)

    def take_message(self, text: str) -> None:
        """Act on a message that a script published for this process: an operation was resolved, or a run is to be cancelled."""
        kind, _, rest = text.partition(SEPARATOR)
        run_id, _, step_key = rest.partition(SEPARATOR)
        execution = self.executions.get(run_id)
        if execution is None:
            return
        if kind == "resolved":
            execution.look(step_key)
        elif kind == "cancel":
            execution.stop(Ending.CANCELLED)

    def leave(self, functions: Iterable[str]) -> None:
        """Leave the runs of those of the app's functions that this code base does not have to other processes (S2.7)."""
        missing = [each for each in functions if each not in self.functions]
        self.unknown.update(dict.fromkeys(missing))
        self.others_have = bool(missing)

    def take_pause(self, function_id: str) -> None:
        """Act on the pause of a function of the app."""
        self.spawn(self.stop_paused())

    async def stop_paused(self) -> None:
        """Hand back the runs of paused functions, once their executing steps have ended. Rule S10.4.

        The store replies in order, so when this reply comes, all runs that were claimed before the pause are known here.
        """
        try:
            paused = await self.store.steering.paused()
        except StoreUnavailable:  # this process is closing
            return
        for execution in list(self.executions.values()):
            if execution.function_id in paused:
                execution.stop(Ending.HANDED_BACK)

    def look_again(self) -> None:
        """Look at every run and every queue, since messages may have been lost with a connection."""
        self.spawn(self.stop_paused())
        for execution in list(self.executions.values()):
            execution.look()
        for queue in self.queues:
            self.look_for_work(queue)

    async def reconcile(self) -> None:
        """Hand back claims that this process does not know, since their reply never came, and runs of paused functions."""
        held = await self.store.client.call("HKEYS", self.store.keys.claims(self.child_id))
        known = {job for execution in self.executions.values() for job in execution.claims.jobs}
        lost = [job for raw in held if (job := raw.decode()) not in known]
        if lost:
            await self.hand_back(lost)
        await self.stop_paused()

    # --- the end ---

    async def drain(self) -> None:
        """Begin nothing more, let executing steps end, and hand their runs to other workers. Rule S9.6."""
        self.is_draining = True
        spent = [WorkHint(self.config.app_id, queue) for queue, by_hint in self.wanted.items() if by_hint]
        # the messages for these queues are acknowledged, but this process claims nothing for them any more
        if spent:
            self.messenger.send_work(spent)
        self.stop_all()
        await self.idle.wait()

    def stop_all(self) -> None:
        """Have no run here begin another step. Safe to repeat."""
        for execution in list(self.executions.values()):
            execution.stop(Ending.HANDED_BACK)

    def spawn(self, work: Any) -> None:
        task = self.loop.create_task(work, context=ContextVars())
        task.add_done_callback(report_bug)


def report_bug(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the executor failed", exc_info=error)
