"""How a run ends in this process: finished, to be tried again, suspended, cancelled, handed back, given away or lost.

The execution says that it ends, and why: its handler has ended, or it is told to stop. Here that is carried out. The store is told,
what is left of the handler is unwound, and the slot is given back.
"""

from __future__ import annotations

import logging
import random
from enum import Enum
from typing import TYPE_CHECKING

import orjson

from taskflow.engine.handler import describe_error
from taskflow.errors import StepError
from taskflow.retries import next_attempt_ms
from taskflow.store.claims import Verdict

if TYPE_CHECKING:
    from taskflow.engine.execution import Execution

logger = logging.getLogger("taskflow.engine")


class Ending(Enum):
    """Why no step may start any more."""

    SUSPENDED = "suspended"
    CANCELLED = "cancelled"
    FENCED = "fenced"
    HANDED_BACK = "handed back"
    FINISHED = "finished"
    BROKEN = "broken"  # by a bug of the engine


class Closing:
    """The end of one resident run. There is none any more once the run is released: what may be called later is the execution's."""

    __slots__ = ("execution", "has_slot", "is_concluding")

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.has_slot = True
        self.is_concluding = False

    # --- the handler has ended ---

    async def fail(self, error: BaseException) -> None:
        """The handler raised: try it again, or end the run."""
        execution = self.execution
        now_ms = execution.host.clock.now_ms()
        due_ms = None
        if not isinstance(error, StepError):
            due_ms = next_attempt_ms(
                execution.function.spec.retries,
                execution.attempt,
                now_ms=now_ms,
                error=error,
                jitter=random.random(),
            )
        body = orjson.dumps(describe_error(error))
        if due_ms is None:
            await self.finish("failed", body)
        else:
            await self.retry(body, due_ms=due_ms, now_ms=now_ms)

    async def retry(self, body: bytes, *, due_ms: int, now_ms: int) -> None:
        """Have the code between the steps tried again at `due_ms`."""
        execution = self.execution
        execution.ending = Ending.FINISHED
        # Parallel steps that execute would be executed once more elsewhere, with what they did now lost.
        await execution.steps_end(keep=True)
        verdict, hints = await execution.host.claims.retry(
            execution.claim, attempts=execution.attempt + 1, due_ms=due_ms, error=body, now_ms=now_ms
        )
        if hints:
            execution.host.send_hints(hints)
        if verdict is Verdict.CANCEL:
            execution.ending = None
            execution.stop(Ending.CANCELLED)
        else:
            self.conclude()

    async def finish(self, status: str, body: bytes) -> None:
        """End the run."""
        execution, host = self.execution, self.execution.host
        assert not execution.claimed.step_key, "an offered step does not end its run"
        execution.ending = Ending.FINISHED
        is_limited = bool(execution.function.spec.flow.concurrency)
        if is_limited:
            await execution.steps_end(keep=False)  # they count as long as they execute (S7.1)
        # The slot is free before the end is sent: the claim of the next run then goes out with it.
        if not execution.tree.executing and not execution.tree.has_leftovers:
            self.free_slot()
            if is_limited:
                host.look_for_work(execution.function.spec.queue)
        verdict, hints = await host.claims.finish(
            execution.claim, status, body, has_pending=self.may_have_pending(status),
            kept_ms=execution.function.spec.keep_ms or host.config.retention_ms, now_ms=host.clock.now_ms(),
        )  # fmt: skip
        if hints:
            host.send_hints(hints)
        if verdict is Verdict.CANCEL:
            await self.finish("cancelled", await host.claims.cancel_reason(execution.run_id))
            return
        self.conclude()

    def may_have_pending(self, status: str) -> bool:
        """Whether operations may be left in the store; a handler that was unwound leaves none here, though it had parked some."""
        execution = self.execution
        if status != "completed" or execution.parking.pending or execution.parking.unstored:
            return True
        known = execution.replay.operations
        return bool(known) and any(op.is_pending for op in known.values())

    # --- the run was told to stop ---

    async def end(self) -> None:
        """Carry out what `Execution.stop` asked for, once nothing of the run executes."""
        if self.is_concluding:
            return
        self.is_concluding = True
        await self.unwind()
        execution = self.execution
        if execution.ending is Ending.CANCELLED:
            reason = execution.reason or await execution.host.claims.cancel_reason(execution.run_id)
            await self.finish("cancelled", reason)
            return
        if execution.ending is Ending.HANDED_BACK:
            await self.hand_back()
        self.conclude()

    async def give_away(self, cause: str) -> None:
        """The run broke the engine: others may try."""
        await self.hand_back(crashed=True, cause=cause)
        self.conclude()

    async def hand_back(self, *, crashed: bool = False, cause: str = "") -> None:
        execution, host = self.execution, self.execution.host
        await host.claims.hand_back(
            execution.claim.child_id,
            [execution.job],
            crashed=crashed,
            cause=cause,
            now_ms=host.clock.now_ms(),
        )

    # --- nothing of it stays here ---

    def conclude(self) -> None:
        """The run is over here. Safe to repeat."""
        execution = self.execution
        if execution.is_over:
            return
        self.is_concluding = execution.is_over = True
        if execution.ending is None:
            execution.ending = Ending.FINISHED
        if execution.trial is not None:
            execution.trial.end()
        for part in (execution.turns, execution.parking, execution.offering):
            part.close()
        if not execution.tree.has_leftovers:
            execution.tree.close()
            self.release()
        elif not execution.tree.executing:
            execution.spawn(self.clear_leftovers())

    async def clear_leftovers(self) -> None:
        """The handler has returned, but tasks that it spawned go on: end them."""
        await self.unwind()
        self.release()

    async def unwind(self) -> None:
        tree = self.execution.tree
        tree.unwind()
        await tree.unwound()
        if tree.survivors:
            logger.error(
                "run %s: %d tasks of its handler don't end: they catch Suspend or CancelledError",
                self.execution.run_id,
                len(tree.survivors),
            )

    def release(self) -> None:
        """Nothing of the run is left here, but for the thread of a `def` handler, perhaps, whose next step is refused.

        The parts that hold the run are let go: only the collector could free such a cycle, and it takes longer than the run took.
        """
        execution = self.execution
        if execution.is_released:  # leftovers are cleared away twice when another thread rests meanwhile
            return
        execution.is_released = True
        execution.host.released(execution)
        self.free_slot()
        del execution.parking, execution.offering, execution.closing, execution.logger
        execution.trial = None

    def free_slot(self) -> None:
        if self.has_slot:
            self.has_slot = False
            self.execution.host.free_slot()
