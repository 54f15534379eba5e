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
import random
from collections.abc import Awaitable, Sequence
from contextvars import Context as ContextVars
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

import orjson

from taskflow.codec import to_json
from taskflow.context import Context, RunLogger
from taskflow.engine.handler import describe_error, inside_step
from taskflow.engine.host import Host
from taskflow.engine.offering import Offering
from taskflow.engine.operation import DONE, Operation
from taskflow.engine.parking import Parking
from taskflow.engine.replay import Call, Replay
from taskflow.engine.suspension import TaskTree
from taskflow.engine.threads import Threads
from taskflow.engine.tools import Tools
from taskflow.engine.turns import Turns
from taskflow.errors import LimitExceeded, StepError, StoreUnavailable, Suspend, WorkerLost
from taskflow.event import ReceivedEvent
from taskflow.function import Function
from taskflow.retries import next_attempt_ms
from taskflow.step import BlockingStep, Step, is_step_operation
from taskflow.store.claims import ClaimedRun, ParkedOp, Verdict
from taskflow.store.client import CommandError
from taskflow.store.keys import SEPARATOR

logger = logging.getLogger("taskflow.engine")

T = TypeVar("T")


class Ending(Enum):
    """Why no step may start any more."""

    SUSPENDED = "suspended"
    CANCELLED = "cancelled"
    FENCED = "fenced"
    HANDED_BACK = "handed back"
    FINISHED = "finished"
    BROKEN = "broken"  # by a bug of the engine


def job_id(run_id: str, step_key: str) -> str:
    """What a claim is for: a run, or one step that another process offers (S4.4)."""
    return f"{run_id}{SEPARATOR}{step_key}" if step_key else run_id


class Execution:
    """One resident run. All methods run on the loop's thread."""

    __slots__ = (
        "attempt", "busy", "claim", "claimed", "ending", "epoch", "event", "event_obj", "function", "has_slot", "host",
        "is_concluding", "is_on_trial", "is_over", "logger", "losers", "lost", "offering", "parking", "reason", "replay",
        "run_id", "state_bytes", "steps_over", "threads", "tree", "turns",
    )  # fmt: skip

    def __init__(self, claimed: ClaimedRun, function: Function[Any, Any], host: Host, epoch: int) -> None:
        """`epoch` of the lease, as it was before the run was claimed."""
        self.epoch = epoch
        self.claimed = claimed
        self.attempt = (
            claimed.attempt
        )  # failures of the code between the steps since the last step that completed
        self.claim = claimed.claim
        self.run_id = claimed.claim.run_id
        self.function = function
        self.host = host
        self.event_obj: dict[str, Any] = orjson.loads(claimed.event)
        self.event = ReceivedEvent.from_wire(self.event_obj)
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
        self.threads = None if function.is_async else Threads(self)
        self.state_bytes = 0
        if claimed.steps:
            self.load_story()
        self.ending: Ending | None = None
        self.reason: bytes = b""  # of a cancellation, as JSON
        self.is_on_trial = False
        self.is_concluding = False
        self.is_over = False
        self.has_slot = True
        self.busy: set[asyncio.Future[Any] | None] = set()  # tasks that execute a step now
        self.losers: set[asyncio.Future[Any]] = set()  # of a race, that were executing when it was decided
        self.lost: list[
            asyncio.Future[None]
        ] = []  # steps that lost a race before, and are met again in the replay
        self.steps_over: asyncio.Future[None] | None = None  # when nothing executes any more
        self.logger = RunLogger(
            {"run_id": self.run_id, "function_id": claimed.function_id, "attempt": claimed.attempt},
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
            await self.check_crashes()
            if self.claimed.cancel:
                self.stop(Ending.CANCELLED, self.claimed.cancel)
                return
            await self.begin_trial()
            output = await self.call_handler()
            body = to_json(output, what=f"the result of {self.function.spec.id}")
        except Suspend:
            return  # whoever raised it takes care of the rest
        except BaseException as error:
            if self.ending is None and not self.tree.suspending:
                await self.fail(error)
        else:
            if self.ending is None:
                await self.finish("completed", body)

    async def begin_trial(self) -> None:
        """A run whose next crash would be its last executes alone of its kind until it gets on: the innocent go free (S9.8)."""
        if self.claimed.crashes < max(1, self.host.config.max_crashes - 1):
            return
        await self.host.trial.acquire()
        self.is_on_trial = True
        if not await self.ask(self.host.claims.begin_trial(self.claim)):
            self.stop(Ending.FENCED)
            raise Suspend

    def end_trial(self) -> None:
        if self.is_on_trial:
            self.is_on_trial = False
            self.host.trial.release()

    async def call_handler(self) -> Any:
        function = self.function
        started_at = datetime.fromtimestamp(self.claimed.started_ms / 1000, UTC)
        step = Step(Tools(self)) if function.is_async else BlockingStep(Tools(self))
        context: Context[Any] = Context(
            self.event,
            [self.event, *(ReceivedEvent.from_wire(orjson.loads(more)) for more in self.claimed.more_events)],
            self.run_id,
            self.claimed.function_id,
            self.claimed.attempt,
            started_at,
            step,
            self.logger,
        )
        args = (context, step) if function.takes_step else (context,)
        if self.threads is None:
            return await function.handler(*args)
        return await self.threads.run(function.handler, args)

    async def check_crashes(self) -> None:
        """Refuse a run under which process after process died. Rule S9.8."""
        if self.claimed.crashes < self.host.config.max_crashes:
            return
        how = await self.ask(self.host.claims.crash_log(self.run_id))
        raise WorkerLost(
            f"the worker process died {self.claimed.crashes} times while it executed this run without progress ({how}). "
            "Look for memory use, os._exit, or native code that crashes."
        )

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
            self.end_trial()
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

    def suspended(self) -> None:
        """The store has the run as suspended."""
        self.stop(Ending.SUSPENDED)

    def resolved_elsewhere(self) -> None:
        """Somebody resolved an operation of this run while it is here."""
        self.parking.look()

    # --- ends ---

    async def fail(self, error: BaseException) -> None:
        """The handler raised: try it again, or end the run."""
        now_ms = self.host.clock.now_ms()
        due_ms = None
        if not isinstance(error, StepError):
            due_ms = next_attempt_ms(
                self.function.spec.retries,
                self.attempt,
                now_ms=now_ms,
                error=error,
                jitter=random.random(),
            )
        body = orjson.dumps(describe_error(error))
        if due_ms is None:
            await self.finish("failed", body)
            return
        self.ending = Ending.FINISHED
        # Parallel steps that execute would be executed once more elsewhere, with what they did now lost.
        await self.steps_end(keep=True)
        verdict, hints = await self.host.claims.retry(
            self.claim, attempts=self.attempt + 1, due_ms=due_ms, error=body, now_ms=now_ms
        )
        if hints:
            self.host.send_hints(hints)
        if verdict is Verdict.CANCEL:
            self.ending = None
            self.stop(Ending.CANCELLED)
        else:
            self.conclude()

    async def finish(self, status: str, body: bytes) -> None:
        """End the run."""
        self.ending = Ending.FINISHED
        if self.function.spec.flow.concurrency:
            await self.steps_end(keep=False)  # they count as long as they execute (S7.1)
        outcome = self.host.claims.finish(
            self.claim, status, body, has_pending=self.may_have_pending(status), kept_ms=self.host.config.retention_ms,
            now_ms=self.host.clock.now_ms(),
        )  # fmt: skip
        if not self.tree.executing and not self.tree.has_leftovers:
            self.free_slot()  # at once: the claim of the next run goes out behind this end, and saves a round trip
            if self.function.spec.flow.concurrency:
                self.host.look_for_work(self.function.spec.queue)
        verdict, hints = await outcome
        if hints:
            self.host.send_hints(hints)
        if verdict is Verdict.CANCEL:
            await self.finish("cancelled", await self.host.claims.cancel_reason(self.run_id))
            return
        self.conclude()

    def may_have_pending(self, status: str) -> bool:
        """Whether operations may be left in the store; a handler that was unwound leaves none here, though it had parked some."""
        if status != "completed" or self.parking.pending or self.parking.unstored:
            return True
        return bool(self.replay.operations) and any(op.is_pending for op in self.replay.operations.values())

    def stop(self, ending: Ending, reason: bytes = b"") -> None:
        """Start no step any more; end when the running ones have ended. Safe to repeat.

        Losing the claim beats all else. A cancellation beats handing back: others might not execute the run for long (S10.4).
        """
        if self.ending is Ending.FINISHED:
            return
        is_stronger = (
            ending is Ending.CANCELLED and self.ending is Ending.HANDED_BACK and not self.is_concluding
        )
        if self.ending is None or ending is Ending.FENCED or is_stronger:
            self.ending = ending
        self.reason = self.reason or reason
        if not self.tree.executing:
            self.spawn(self.end())

    async def steps_end(self, *, keep: bool) -> None:
        """Wait until nothing of the run executes; with `keep`, store what failed attempts are to be tried again."""
        if not self.tree.executing:
            return
        self.steps_over = self.host.loop.create_future()
        self.turns.give_up()  # steps whose outcome is stored wait there
        await self.steps_over
        if keep and self.parking.unstored:
            await self.parking.store(suspend=False)

    def step_begins(self) -> None:
        """A step's function is about to be called. Raises Suspend when the run is ending."""
        if (
            self.ending is not None
        ):  # the step waited for its slot: it would be cut off, and executed again elsewhere
            raise Suspend
        self.tree.enter()
        self.busy.add(asyncio.current_task())

    def step_ended(self) -> None:
        """A step's function has ended, and its outcome is stored or given up."""
        self.busy.discard(asyncio.current_task())
        self.release()

    def release(self) -> None:
        """Code of a step, or of a `def` handler outside its steps, has ended."""
        self.tree.leave()
        if self.tree.executing:
            return
        if self.steps_over is not None and not self.steps_over.done():
            self.steps_over.set_result(None)
        if self.is_over:
            if self.tree.has_leftovers:
                self.spawn(self.clear_leftovers())
        elif self.ending not in (None, Ending.FINISHED):
            self.spawn(self.end())

    def cancel_losers(self, tasks: Sequence[asyncio.Future[Any]]) -> None:
        """A race is decided: branches that wait are cancelled, steps that execute end and are ignored. Rule S3.7."""
        for task in tasks:
            if task in self.busy:
                self.losers.add(task)
            else:
                task.cancel()

    async def end(self) -> None:
        """Carry out what `stop` asked for, once nothing of the run executes."""
        if self.is_concluding:
            return
        self.is_concluding = True
        await self.unwind()
        if self.ending is Ending.CANCELLED:
            await self.finish("cancelled", self.reason or await self.host.claims.cancel_reason(self.run_id))
        elif self.ending is Ending.HANDED_BACK:
            await self.host.claims.hand_back(
                self.claim.child_id, [self.job], crashed=False, cause="", now_ms=self.host.clock.now_ms()
            )
            self.conclude()
        else:
            self.conclude()

    def conclude(self) -> None:
        """The run is over here. Safe to repeat."""
        if self.is_over:
            return
        self.is_concluding = self.is_over = True
        if self.ending is None:
            self.ending = Ending.FINISHED
        self.end_trial()
        for part in (self.turns, self.parking, self.offering):
            part.close()
        if not self.tree.has_leftovers:
            self.tree.close()
            self.release_all()
        elif not self.tree.executing:
            self.spawn(self.clear_leftovers())

    async def clear_leftovers(self) -> None:
        """The handler has returned, but tasks that it spawned go on: end them."""
        await self.unwind()
        self.release_all()

    def release_all(self) -> None:
        """Nothing of the run is left here, but for the thread of a `def` handler, perhaps, whose next step is refused.

        The parts that hold the run are let go: only the collector could free such a cycle, and it takes longer than the run took.
        """
        self.host.released(self)
        self.free_slot()
        del self.parking, self.offering, self.logger

    def free_slot(self) -> None:
        if self.has_slot:
            self.has_slot = False
            self.host.free_slot()

    async def unwind(self) -> None:
        self.tree.unwind()
        await self.tree.unwound()
        if self.tree.survivors:
            logger.error(
                "run %s: %d tasks of its handler don't end: they catch Suspend or CancelledError",
                self.run_id,
                len(self.tree.survivors),
            )

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
        if self.ending is not Ending.BROKEN:
            self.ending = Ending.BROKEN
            self.spawn(self.give_away(f"the engine failed: {type(error).__name__}: {error}"))

    async def ask(self, reply: Awaitable[T]) -> T:
        """Wait for the store on behalf of a step. Its failure is not the handler's: that only meets Suspend."""
        try:
            return await reply
        except (CommandError, StoreUnavailable) as error:
            self.break_down(error)
            raise Suspend from error

    async def give_away(self, cause: str) -> None:
        await self.host.claims.hand_back(
            self.claim.child_id, [self.job], crashed=True, cause=cause, now_ms=self.host.clock.now_ms()
        )
        self.conclude()
