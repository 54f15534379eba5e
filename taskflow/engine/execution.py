"""One run while this process executes it: replay, step after step, until it finishes, suspends or is taken away.

    claimed ──start──▶ executing ──handler returns──▶ completed
                        │    ▲    ──handler raises──▶ failed, or waiting for another attempt
                        │    └─────── an operation is resolved while the run stays here
                        ├──no branch can go on──▶ suspended
                        └──stop(...)──▶ cancelled | fenced off | handed back, once running steps have ended

Whatever happens, `host.released` is called once, at the end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from contextvars import Context as ContextVars
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson

from taskflow.context import Context, RunLogger, run_facts
from taskflow.engine.closing import Closing, Ending
from taskflow.engine.handler import inside_step
from taskflow.engine.host import Host
from taskflow.engine.offering import Offering
from taskflow.engine.parking import Parking
from taskflow.engine.replay import Call, Replay
from taskflow.engine.tasks.suspension import TaskTree
from taskflow.engine.threads import Threads
from taskflow.engine.tools import Tools
from taskflow.engine.trial import Trial
from taskflow.engine.turns import Turns
from taskflow.errors import LimitExceeded, StoreUnavailable, Suspend
from taskflow.event import ReceivedEvent, WireEvent, read_event
from taskflow.function import Function
from taskflow.redis.connection import CommandError
from taskflow.step import BlockingStep, Step, is_step_operation
from taskflow.store.claims import ClaimedRun, ParkedOp, Verdict
from taskflow.store.keys import SEPARATOR
from taskflow.store.operation import DONE, Operation
from taskflow.values.stored import dump

logger = logging.getLogger("taskflow.engine")

T = TypeVar("T")


def job_id(run_id: str, step_key: str) -> str:
    """What a claim is for: a run, or one step that another process offers (S4.4)."""
    return f"{run_id}{SEPARATOR}{step_key}" if step_key else run_id


class Execution:
    """One resident run. All methods run on the loop's thread."""

    __slots__ = (
        "attempt", "busy", "claim", "claimed", "closing", "ending", "epoch", "event", "event_obj", "events", "function", "host",
        "is_over", "is_released", "logger", "losers", "lost", "offering", "parking", "reason", "replay", "run_id", "state_bytes",
        "steps_over", "threads", "tree", "trial", "turns",
    )  # fmt: skip

    def __init__(self, claimed: ClaimedRun, function: Function[Any, Any], host: Host, epoch: int) -> None:
        """`epoch` of the lease, as it was before the run was claimed."""
        self.epoch = epoch
        self.claimed = claimed
        # Failures of the code between the steps since the last step that completed.
        self.attempt = claimed.attempt
        self.claim = claimed.claim
        self.run_id = claimed.claim.run_id
        self.function = function
        self.host = host
        self.event_obj: WireEvent = orjson.loads(claimed.event) if claimed.wire is None else claimed.wire
        self.event = ReceivedEvent.from_wire(self.event_obj)
        self.events = [self.event, *map(read_event, claimed.more_events)]
        self.replay = Replay(
            claimed.steps,
            function_id=claimed.function_id,
            is_strict=function.spec.determinism == "strict",
            max_steps=host.config.max_steps,
        )
        self.tree = TaskTree(host.loop, on_stuck=self.on_stuck, is_operation=is_step_operation)
        self.turns = Turns(self.tree, host.loop)
        self.parking = Parking(self)
        self.offering = Offering(self)
        self.closing = Closing(self)
        self.trial = Trial(self) if claimed.crashes else None
        self.threads = None if function.is_async else Threads(self)
        self.state_bytes = 0
        if claimed.steps:
            self.load_story()
        self.ending: Ending | None = None
        self.reason: bytes = b""  # of a cancellation, as JSON
        self.is_over = False
        self.is_released = False
        self.busy: set[asyncio.Future[Any] | None] = set()  # tasks that execute a step now
        self.losers: set[asyncio.Future[Any]] = set()  # of a race, that were executing when it was decided
        # Steps that lost a race before, and are met again in the replay.
        self.lost: list[asyncio.Future[None]] = []
        self.steps_over: asyncio.Future[None] | None = None  # when nothing executes any more
        self.logger = RunLogger(
            run_facts(self.run_id, claimed.function_id, claimed.attempt, self.event.headers),
            self.is_silent,
        )

    def load_story(self) -> None:
        """Make ready to replay what the run did before."""
        self.state_bytes = sum(map(len, self.claimed.steps.values()))
        story = self.replay.story()
        next_order = 0
        for key, op in story:
            if op.order is None:
                op.order = next_order
                self.parking.note(key, op)
            next_order = op.order + 1
        self.turns.load((key for key, _ in story), next_order)

    @property
    def is_going_on(self) -> bool:
        """False once the run ends, is taken away, or is being unwound here."""
        return self.ending is None and not self.tree.suspending

    @property
    def job(self) -> str:
        return job_id(self.run_id, self.claimed.step_key)

    def is_silent(self) -> bool:
        """Whether what the handler logs now was logged before. Rule S10.6."""
        if inside_step.get() or self.replay.is_over:
            return False
        return self.replay.is_replaying or bool(self.turns.expected)

    # --- the handler ---

    def start(self) -> None:
        """Begin; returns at once."""
        self.tree.start(self.main()).add_done_callback(self.report_bug)

    async def main(self) -> None:
        try:
            if self.trial is not None:
                await self.trial.check_crashes()
            if self.claimed.cancel:
                self.stop(Ending.CANCELLED, self.claimed.cancel)
                return
            if self.trial is not None:
                await self.trial.begin()
            output = await self.call_handler()
            body = dump(output, self.function.output, what=f"the result of {self.function.spec.id}")
        except Suspend:
            return  # whoever raised it takes care of the rest
        except BaseException as error:
            if self.ending is None and not self.tree.suspending:
                await self.closing.fail(error)
        else:
            if self.ending is None:
                await self.closing.finish("completed", body)

    async def call_handler(self) -> Any:
        function = self.function
        started_at = datetime.fromtimestamp(self.claimed.started_ms / 1000, UTC)
        step = Step(Tools(self)) if function.is_async else BlockingStep(Tools(self))
        context: Context[Any] = Context(
            self.event, self.events, self.run_id, self.claimed.function_id, self.claimed.attempt, started_at, step, self.logger
        )  # fmt: skip
        args = (context, step) if function.takes_step else (context,)
        if self.threads is None:
            return await function.handler(*args)
        return await self.threads.run(function.handler, args)

    # --- steps ---

    async def begin(self, step_id: str) -> Call:
        """A step tool is called."""
        if self.ending is not None or self.tree.suspending:
            await self.tree.refuse()
        if self.losers and asyncio.current_task() in self.losers:
            raise asyncio.CancelledError
        call = self.replay.call(step_id)
        if self.replay.order_warning:
            self.spawn(self.warn_once(self.replay.order_warning))
            self.replay.order_warning = ""
        return call

    async def warn_once(self, text: str) -> None:
        if await self.host.claims.mark_warned(self.run_id):
            logger.warning("%s: %s (run %s)", self.claimed.function_id, text, self.run_id)

    async def recall(self, call: Call, known: Operation) -> Operation:
        """Give the outcome of a finished operation, in its turn."""
        await self.turns.take(call.key)
        self.replay.reached(call.key)
        return known

    async def commit(self, key: str, op: Operation) -> None:
        """Store an outcome and wait for its turn. When it returns, it is stored and the claim is ours; else it raises Suspend."""
        op.order = self.turns.next_order
        packed = op.pack()
        self.state_bytes += len(packed)
        self.check_state_size()
        self.turns.expect(key)
        notes = [part for note in self.parking.take_notes() for part in note] if self.parking.notes else ()
        try:
            verdict = await self.ask(
                self.host.claims.commit_step(self.claim, *notes, key, packed, is_completed=op.state == DONE)
            )
        except BaseException:
            # The loser of a race: nobody will ask for its outcome, and the others must not wait for that.
            self.turns.forget(key)
            raise
        if verdict is Verdict.OK:
            if self.trial is not None:
                self.trial.end()
            if op.state == DONE:
                self.attempt = 0
            if self.ending is Ending.FINISHED:  # the handler has failed meanwhile; its next attempt finds it
                raise Suspend
            await self.turns.take(key)
            self.replay.is_over = True
            return
        self.obey(verdict)
        raise Suspend

    def check_state_size(self) -> None:
        if self.state_bytes > self.host.config.max_run_bytes:
            raise LimitExceeded(
                f"the steps of run {self.run_id} hold {self.state_bytes:,} bytes, but at most "
                f"{self.host.config.max_run_bytes:,} are allowed (max_run_bytes). Keep large results elsewhere and "
                "return a reference."
            )

    async def park(self, key: str, op: Operation, stored: bool, parked: ParkedOp | None = None) -> Operation:
        """Wait for an operation that something else resolves: time, an event, another run."""
        return await self.parking.park(key, None if stored else parked or ParkedOp(key, op.pack()))

    def obey(self, verdict: Verdict) -> None:
        """Do what the store answered to a commit."""
        if verdict is Verdict.FENCED:
            self.stop(Ending.FENCED)
        elif verdict is Verdict.CANCEL:
            self.stop(Ending.CANCELLED)

    async def check_claim(self) -> None:
        """Ask the store whether the claim still stands; Suspend when it does not. Rule S9.4."""
        epoch = self.host.lease.epoch
        verdict, _ = await self.ask(self.host.claims.fetch_resolved(self.claim, ()))
        if verdict is Verdict.FENCED:
            self.stop(Ending.FENCED)
            raise Suspend
        self.epoch = epoch

    def may_execute(self, key: str) -> bool:
        """Whether a step without a memo is ours to execute."""
        return True

    @property
    def slot_is_taken(self) -> bool:
        """Whether a step has to find a slot of its own, since another one executes in that of the run."""
        return self.tree.executing > 0

    async def find_slot(self, key: str, op: Operation) -> Operation:
        """Get a slot for a parallel step: `op` when there is one, or what another process made of it. Rule S4.4."""
        return await self.offering.find_slot(key, op)

    # --- suspending and resuming in place ---

    def on_stuck(self) -> None:
        """No branch of the handler can go on."""
        if self.ending is not None or self.parking.is_suspending or self.parking.fetches:
            return
        if self.turns.waiting:
            self.turns.skip()
        elif any(not waiter.done() for waiter in self.lost):
            self.revive_losers()
        elif self.parking.pending and (self.offering.offers or not self.offering.slotless):
            self.parking.suspend()  # steps beyond MAX_OFFERS are met again when an offered one has been executed

    def suspended(self) -> None:
        """The store has the run as suspended."""
        self.stop(Ending.SUSPENDED)

    def resolved_elsewhere(self) -> None:
        """Somebody resolved an operation of this run while it is here."""
        self.parking.look()

    # --- what executes ---

    def step_begins(self) -> None:
        """A step's function is about to be called. Raises Suspend when the run is ending."""
        # The step waited for its slot: it would be cut off, and executed again elsewhere.
        if self.ending is not None:
            raise Suspend
        self.tree.enter()
        self.busy.add(asyncio.current_task())

    def step_ended(self) -> None:
        """A step's function has ended, and its outcome is stored or given up."""
        self.busy.discard(asyncio.current_task())
        self.release()

    def release(self) -> None:
        """Code of a step, or of a `def` handler outside its steps, has ended; perhaps long after the run was released."""
        self.tree.leave()
        if self.tree.executing:
            return
        if self.steps_over is not None and not self.steps_over.done():
            self.steps_over.set_result(None)
        if self.is_over:
            if self.tree.has_leftovers and not self.is_released:
                self.spawn(self.closing.clear_leftovers())
        elif self.ending not in (None, Ending.FINISHED):
            self.spawn(self.closing.end())

    async def steps_end(self, *, keep: bool) -> None:
        """Wait until nothing of the run executes; with `keep`, store what failed attempts are to be tried again."""
        if not self.tree.executing:
            return
        self.steps_over = self.host.loop.create_future()
        self.turns.give_up()  # steps whose outcome is stored wait there
        await self.steps_over
        if keep and self.parking.unstored:
            await self.parking.store(suspend=False)

    def cancel_losers(self, tasks: Sequence[asyncio.Future[Any]]) -> None:
        """A race is decided: branches that wait are cancelled, steps that execute end and are ignored. Rule S3.7."""
        for task in tasks:
            if task in self.busy:
                self.losers.add(task)
            else:
                task.cancel()

    async def lose_again(self) -> None:
        """A step was given up: it lost a race. It rests until the replay has decided that race, and cancels it, as before."""
        waiter: asyncio.Future[None] = self.tree.parked()
        self.lost.append(waiter)
        await waiter

    def revive_losers(self) -> None:
        """No branch can go on, so the race was not decided as before: the code, or what it saw outside its steps, has changed."""
        lost, self.lost = self.lost, []
        for waiter in lost:
            if not waiter.done():
                waiter.set_result(None)

    # --- stopping ---

    def stop(self, ending: Ending, reason: bytes = b"") -> None:
        """Start no step any more; end when the running ones have ended. Safe to repeat.

        Losing the claim beats all else. A cancellation beats handing back: others might not execute the run for long (S10.4).
        """
        if self.is_over or self.ending is Ending.FINISHED:
            return
        is_stronger = (
            ending is Ending.CANCELLED
            and self.ending is Ending.HANDED_BACK
            and not self.closing.is_concluding
        )
        if self.ending is None or ending is Ending.FENCED or is_stronger:
            self.ending = ending
        self.reason = self.reason or reason
        if not self.tree.executing:
            self.spawn(self.closing.end())

    # --- the engine's own work ---

    def spawn(self, work: Any) -> None:
        """Run engine work outside the handler's task tree."""
        task = self.host.loop.create_task(work, context=ContextVars())
        task.add_done_callback(self.report_bug)

    def report_bug(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.break_down(error)

    def break_down(self, error: BaseException) -> None:
        """The engine itself failed. The run goes to another process, which counts as a crash: it must not loop (S9.8)."""
        if isinstance(error, StoreUnavailable):  # this process is closing, and its supervisor hands back
            self.stop(Ending.FENCED)
            return
        logger.error("run %s: the engine failed", self.run_id, exc_info=error)
        if self.ending is not Ending.BROKEN and not self.is_over:  # else the claim is gone already
            self.ending = Ending.BROKEN
            self.spawn(self.closing.give_away(f"the engine failed: {type(error).__name__}: {error}"))

    async def ask(self, reply: Awaitable[T]) -> T:
        """Wait for the store on behalf of a step. Its failure is not the handler's: that only meets Suspend."""
        try:
            return await reply
        except (CommandError, StoreUnavailable) as error:
            self.break_down(error)
            raise Suspend from error
