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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context as ContextVars
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

import orjson

from taskflow.codec import to_json
from taskflow.context import Context, RunLogger
from taskflow.engine.final_event import final_event
from taskflow.engine.handler import call_in_thread, describe_error
from taskflow.engine.host import Host
from taskflow.engine.operation import DUE, OFFER, Operation
from taskflow.engine.replay import Call, Replay
from taskflow.engine.suspension import TaskTree
from taskflow.engine.tools import Tools
from taskflow.errors import LimitExceeded, StepError, StoreUnavailable, Suspend, WorkerLost
from taskflow.event import ReceivedEvent
from taskflow.function import Function
from taskflow.retries import next_attempt_ms
from taskflow.step import BlockingStep, Step, is_step_operation
from taskflow.store.claims import ClaimedRun, ParkedOp, Verdict, parse_finish
from taskflow.store.client import CommandError
from taskflow.store.keys import SEPARATOR

logger = logging.getLogger("taskflow.engine")

T = TypeVar("T")

# Operations that are parked while other branches execute are stored after this pause, together; a run that can be
# suspended is suspended at once.
STORE_DELAY_S = 0.002
OFFER_AFTER_S = 0.05  # a parallel step that found no slot here for this long is offered to other processes
MAX_OFFERS = 50
REPLAY_PAUSE_S = (
    0.005  # how long a memo may wait for its turn when raw I/O hides whether the turn can still come
)


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
        "claim", "claimed", "ending", "epoch", "event", "event_obj", "function", "host", "is_concluding",
        "is_suspending", "logger", "notes", "offer_timer", "offers", "pending", "reason", "replay", "run_id",
        "slotless", "state_bytes", "store_timer", "tree", "turn_timer", "turn_waiters", "unstored",
    )  # fmt: skip

    def __init__(self, claimed: ClaimedRun, function: Function[Any, Any], host: Host, epoch: int) -> None:
        """`epoch` of the lease, as it was before the run was claimed."""
        self.epoch = epoch
        self.claimed = claimed
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
        self.state_bytes = sum(map(len, claimed.steps.values())) if claimed.steps else 0
        self.tree = TaskTree(host.loop, on_stuck=self.on_stuck, is_operation=is_step_operation)
        self.pending: dict[str, asyncio.Future[Operation]] = {}  # parked operations, by step key
        self.unstored: list[ParkedOp] = []  # those that the store does not know yet
        self.turn_waiters: dict[
            str, asyncio.Future[None]
        ] = {}  # memos that wait for their turn in the replay
        self.notes: list[str | bytes] = []  # step key, operation, ...: their order goes with the next commit
        self.ending: Ending | None = None
        self.reason: bytes = b""  # of a cancellation, as JSON
        self.is_suspending = False
        self.is_concluding = False
        self.slotless: dict[
            str, tuple[Operation, asyncio.Future[Operation]]
        ] = {}  # steps that wait for a slot
        self.offers: set[str] = set()  # those of them that other processes may take
        self.offer_timer: asyncio.TimerHandle | None = None
        self.store_timer: asyncio.TimerHandle | None = None
        self.turn_timer: asyncio.TimerHandle | None = None
        self.logger = RunLogger(
            {"run_id": self.run_id, "function_id": claimed.function_id, "attempt": claimed.attempt},
            self.is_silent,
        )

    @property
    def job(self) -> str:
        return job_id(self.run_id, self.claimed.step_key)

    def is_silent(self) -> bool:
        return self.replay.is_replaying

    # --- the handler ---

    def start(self) -> None:
        """Begin; returns at once."""
        self.tree.start(self.main()).add_done_callback(self.report_bug)

    async def main(self) -> None:
        try:
            self.check_crashes()
            if self.claimed.cancel:
                self.stop(Ending.CANCELLED, self.claimed.cancel)
                return
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

    async def call_handler(self) -> Any:
        function = self.function
        started_at = datetime.fromtimestamp(self.claimed.started_ms / 1000, UTC)
        step = Step(Tools(self)) if function.is_async else BlockingStep(Tools(self))
        context: Context[Any] = Context(
            self.event,
            [self.event],
            self.run_id,
            self.claimed.function_id,
            self.claimed.attempt,
            started_at,
            step,
            self.logger,
        )
        args = (context, step) if function.takes_step else (context,)
        if function.is_async:
            return await function.handler(*args)
        return await self.in_thread(function.handler, args)

    async def in_thread(self, code: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Run code of a `def` handler in a thread. It counts as executing except while it is blocked in a step."""
        self.tree.hold()
        done = call_in_thread(self.host.threads, code, args, {})
        parked = self.tree.parked()

        def pass_on(future: asyncio.Future[Any]) -> None:
            error = None if future.cancelled() else future.exception()
            if not parked.done():
                if error is not None:
                    parked.set_exception(error)
                else:
                    parked.set_result(future.result())
            self.release()

        done.add_done_callback(pass_on)
        return await parked

    def check_crashes(self) -> None:
        if self.claimed.crashes >= self.host.config.max_crashes:
            raise WorkerLost(
                f"the worker process died {self.claimed.crashes} times while it executed this run without progress. "
                "`taskflow runs show` says how it ended each time. Look for memory use, os._exit, or native code that crashes."
            )

    # --- steps ---

    async def begin(self, step_id: str) -> Call:
        """A step tool is called."""
        if self.ending is not None or self.tree.suspending:
            await self.tree.refuse()
        call = self.replay.call(step_id)
        if self.replay.order_warning:
            logger.warning(
                "%s: %s (run %s)", self.claimed.function_id, self.replay.order_warning, self.run_id
            )
            self.replay.order_warning = ""
        return call

    async def recall(self, call: Call, known: Operation) -> Operation:
        """Give the outcome of a finished operation, in its turn."""
        key = call.key
        if not self.replay.is_turn(key):
            self.turn_waiters[key] = future = self.tree.parked()
            if self.turn_timer is None:
                self.turn_timer = self.host.loop.call_later(REPLAY_PAUSE_S, self.next_turn)
            await future
        self.replay.take_turn(key)
        self.note_order(key, known)
        if self.turn_waiters:
            self.pass_turn()
        return known

    def note_order(self, key: str, op: Operation) -> None:
        """The handler sees an outcome: when that is for the first time, its place in the story is to be stored."""
        if op.order is None:
            op.order = self.replay.new_order()
            self.notes += (key, op.pack())

    def pass_turn(self) -> None:
        turns = self.replay.turns
        future = self.turn_waiters.pop(turns[0], None) if turns else None
        if future is not None and not future.done():
            future.set_result(None)

    def next_turn(self) -> None:
        """No branch can go on: the memos in front belong to steps that are gone. Let the first that is called for go."""
        self.turn_timer = None
        turns = self.replay.turns
        while turns and self.turn_waiters and turns[0] not in self.turn_waiters:
            turns.popleft()
        self.pass_turn()

    async def commit(self, key: str, packed: bytes) -> None:
        """Store an outcome; when it returns, it is stored and the claim is still ours. Raises Suspend otherwise."""
        self.state_bytes += len(packed)
        if self.state_bytes > self.host.config.max_run_bytes:
            raise LimitExceeded(
                f"the steps of run {self.run_id} hold {self.state_bytes:,} bytes, but at most {self.host.config.max_run_bytes:,} are "
                f"allowed (max_run_bytes). Keep large results elsewhere and return a reference."
            )
        notes, self.notes = self.notes, []
        verdict = await self.ask(self.host.claims.commit_step(self.claim, *notes, key, packed))
        if verdict == b"ok":
            return
        if verdict == b"cancel":
            self.stop(Ending.CANCELLED)
        else:
            self.stop(Ending.FENCED)
        raise Suspend

    async def park(self, key: str, op: Operation, stored: bool, parked: ParkedOp | None = None) -> Operation:
        """Wait for an operation that something else resolves: time, an event, another run."""
        future: asyncio.Future[Operation] = self.tree.parked()
        self.pending[key] = future
        if not stored:
            self.unstored.append(parked or ParkedOp(key, op.pack()))
            if self.store_timer is None:
                self.store_timer = self.host.loop.call_later(STORE_DELAY_S, self.store_parked)
        try:
            resolved = await future
        except asyncio.CancelledError:
            if not self.tree.suspending and self.ending is None:
                self.give_up(key)
            raise
        finally:
            self.pending.pop(key, None)
        if resolved.state != DUE:
            self.note_order(key, resolved)
        return resolved

    def give_up(self, key: str) -> None:
        """The loser of a race: take back what was stored for it."""
        self.unstored = [parked for parked in self.unstored if parked.step_key != key]
        self.spawn(self.host.claims.drop(self.claim, [key]))

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

    async def find_slot(self, key: str, op: Operation) -> Operation:
        """Get a slot for a parallel step; when there is none for a while, let any process execute it. Rule S4.4.

        Returns `op` once there is a slot here, or what another process made of it.
        """
        slot = self.host.ask_for_slot()
        if slot.done():
            return op
        parked: asyncio.Future[Operation] = self.tree.parked()
        slot.add_done_callback(lambda _: None if parked.done() else parked.set_result(op))
        self.slotless[key] = (op, parked)
        if self.offer_timer is None:
            self.offer_timer = self.host.loop.call_later(OFFER_AFTER_S, self.offer_steps)
        try:
            found = await parked
        except BaseException:
            self.give_slot_back(slot)
            if self.end_wait_for_slot(key) and self.ending is None and not self.tree.suspending:
                self.give_up(key)
            raise
        was_offered = self.end_wait_for_slot(key)
        if found is not op:
            self.give_slot_back(slot)
            self.offer_steps()
            if found.is_finished:
                self.note_order(key, found)
        elif not was_offered or await self.withdraw(key):
            return op
        else:  # a slot came, but another process has the step by now
            self.host.free_slot()
            found = await self.park(key, op, stored=True)
        return found if found.is_finished else await self.find_slot(key, found)

    def give_slot_back(self, slot: asyncio.Future[None]) -> None:
        if not slot.cancel():
            self.host.free_slot()

    def end_wait_for_slot(self, key: str) -> bool:
        """Forget a step that waited for a slot; True when it was offered."""
        self.slotless.pop(key, None)
        self.offers.discard(key)
        return self.pending.pop(key, None) is not None

    def offer_steps(self) -> None:
        """Offer steps that wait for a slot: a few at a time, since each costs its taker a replay; the last first."""
        self.offer_timer = None
        while self.slotless and len(self.offers) < MAX_OFFERS and self.ending is None:
            key, (op, parked) = self.slotless.popitem()
            self.offers.add(key)
            self.pending[key] = parked
            self.unstored.append(ParkedOp(key, replace(op, state=OFFER).pack()))
        if self.unstored and self.store_timer is None:
            self.store_timer = self.host.loop.call_later(STORE_DELAY_S, self.store_parked)

    async def withdraw(self, key: str) -> bool:
        """Take an offer back; False when another process has the step."""
        unstored = [parked for parked in self.unstored if parked.step_key != key]
        if len(unstored) < len(self.unstored):
            self.unstored = unstored
            return True
        return await self.ask(self.host.claims.withdraw_offer(self.claim, key))

    # --- suspending and resuming in place ---

    def on_stuck(self) -> None:
        """No branch of the handler can go on."""
        if self.ending is not None or self.is_suspending:
            return
        if self.turn_waiters:
            self.next_turn()
        elif self.pending and not self.slotless:
            self.is_suspending = True
            self.spawn(self.suspend())

    async def suspend(self) -> None:
        ops, self.unstored = self.unstored, []
        verdict = await self.store_operations(ops, suspend=True, joins=self.find_joins())
        if verdict is Verdict.PARKED:
            self.stop(Ending.SUSPENDED)
        elif verdict is Verdict.DIRTY:
            self.is_suspending = False
            await self.fetch()
        self.is_suspending = False

    def store_parked(self) -> None:
        """Other branches execute on: store what is parked, so that time runs and events are met."""
        self.store_timer = None
        if self.ending is None and not self.is_suspending and self.unstored:
            ops, self.unstored = self.unstored, []
            self.spawn(self.store_operations(ops, suspend=False, joins={}))

    def find_joins(self) -> dict[str, int]:
        """Which pending operations only count together, by step key. Retries do not: each lets a step go on."""
        if len(self.pending) < 2:
            return {}
        keys = {future: key for key, future in self.pending.items()}
        groups = self.tree.join_groups()
        return {
            keys[future]: number for number, group in enumerate(groups) for future in group if future in keys
        }

    async def store_operations(
        self, ops: Sequence[ParkedOp], *, suspend: bool, joins: Mapping[str, int]
    ) -> Verdict:
        notes, self.notes = self.notes, []
        if notes and await self.host.claims.commit_step(self.claim, *notes) == b"fenced":
            self.stop(Ending.FENCED)
            return Verdict.FENCED
        verdict, hints = await self.host.claims.park(
            self.claim,
            ops,
            suspend=suspend,
            joins=joins,
            version=self.host.config.app_version,
            now_ms=self.host.clock.now_ms(),
        )
        if hints:
            self.host.send_hints(hints)
        if verdict is Verdict.FENCED:
            self.stop(Ending.FENCED)
        elif verdict is Verdict.CANCEL:
            self.stop(Ending.CANCELLED)
        return verdict

    def resolved_elsewhere(self) -> None:
        """Somebody resolved an operation of this run while it is here."""
        if self.ending is None and self.pending and not self.is_suspending:
            self.spawn(self.fetch())

    async def fetch(self) -> None:
        keys = list(self.pending)
        verdict, packed_ops = await self.host.claims.fetch_resolved(self.claim, keys)
        if verdict is Verdict.FENCED:
            self.stop(Ending.FENCED)
            return
        resolved = []
        for key, packed in zip(keys, packed_ops, strict=True):
            op = Operation.unpack(packed) if packed else None
            if op is not None and (op.is_finished or op.state == DUE):
                resolved.append((op.ended or 0, op.index, key, op))
        for _, _, key, op in sorted(resolved, key=lambda row: row[:2]):
            future = self.pending.get(key)
            if future is not None and not future.done():
                future.set_result(op)
        if verdict is Verdict.CANCEL:
            self.stop(Ending.CANCELLED)

    # --- ends ---

    async def fail(self, error: BaseException) -> None:
        """The handler raised: try it again, or end the run."""
        now_ms = self.host.clock.now_ms()
        due_ms = None
        if not isinstance(error, StepError):
            due_ms = next_attempt_ms(
                self.function.spec.retries,
                self.claimed.attempt,
                now_ms=now_ms,
                error=error,
                jitter=random.random(),
            )
        body = orjson.dumps(describe_error(error))
        if due_ms is None:
            await self.finish("failed", body)
            return
        self.ending = Ending.FINISHED
        verdict = await self.host.claims.retry(
            self.claim, attempts=self.claimed.attempt + 1, due_ms=due_ms, error=body, now_ms=now_ms
        )
        if verdict is Verdict.CANCEL:
            self.ending = None
            self.stop(Ending.CANCELLED)
        else:
            self.conclude()

    async def finish(self, status: str, body: bytes) -> None:
        """End the run, with the event that tells of it when it did not complete."""
        self.ending = Ending.FINISHED
        now_ms = self.host.clock.now_ms()
        uid, event = ("", b"") if status == "completed" else self.final_event(status, body, now_ms)
        reply = await self.host.claims.finish(
            self.claim, status, body, has_pending=self.has_pending, event_uid=uid, event=event,
            kept_ms=self.host.config.retention_ms, now_ms=now_ms,
        )  # fmt: skip
        verdict, hints = parse_finish(reply)
        if hints:
            self.host.send_hints(hints)
        if verdict is Verdict.CANCEL:
            await self.finish("cancelled", await self.host.claims.cancel_reason(self.run_id))
            return
        if uid and verdict is Verdict.OK:
            self.host.publish_outbox(uid, event)
        self.conclude()

    @property
    def has_pending(self) -> bool:
        if self.pending or self.unstored:
            return True
        return bool(self.replay.operations) and any(op.is_pending for op in self.replay.operations.values())

    def final_event(self, status: str, body: bytes, now_ms: int) -> tuple[str, bytes]:
        """`taskflow/function.failed` or `.cancelled`, with the same id however often it is made. Rules S5.5, S6.2."""
        return final_event(
            status,
            run_id=self.run_id,
            function_id=self.claimed.function_id,
            event=self.event_obj,
            error=orjson.loads(body),
            now_ms=now_ms,
        )

    def stop(self, ending: Ending, reason: bytes = b"") -> None:
        """Start no step any more; end when the running ones have ended. Safe to repeat; losing the claim beats all else."""
        if self.ending is Ending.FINISHED:
            return
        if self.ending is None or ending is Ending.FENCED:
            self.ending = ending
        self.reason = self.reason or reason
        if not self.tree.executing:
            self.spawn(self.end())

    def release(self) -> None:
        """Code of a `def` handler has ended, or is blocked in a step."""
        self.tree.leave()
        self.step_ended()

    def step_ended(self) -> None:
        """A step's function has ended, and its outcome is stored or given up."""
        if self.ending not in (None, Ending.FINISHED) and not self.tree.executing:
            self.spawn(self.end())

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
        self.is_concluding = True
        if self.ending is None:
            self.ending = Ending.FINISHED
        for timer in (self.store_timer, self.turn_timer, self.offer_timer):
            if timer is not None:
                timer.cancel()
        if self.tree.has_leftovers:
            self.spawn(self.clear_leftovers())
        else:
            self.tree.close()
            self.host.released(self)

    async def clear_leftovers(self) -> None:
        """The handler has returned, but tasks that it spawned go on: end them."""
        await self.unwind()
        self.host.released(self)

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
