"""One step of a run that another process offered for want of a slot. Rule S4.4.

The handler is replayed up to that step, which executes; everything else that has no memo stays parked, and nothing but the
step's outcome is stored. The run itself goes on wherever it is.
"""

from __future__ import annotations

import random

from taskflow.engine.closing import Ending
from taskflow.engine.execution import Execution
from taskflow.engine.handler import describe_error, inside_step
from taskflow.errors import NonDeterminismError, Suspend
from taskflow.retries import next_attempt_ms
from taskflow.store.claims import ParkedOp, Verdict
from taskflow.store.operation import FAILED, RETRY, WAIT, Operation


class OfferedStepExecution(Execution):
    """Executes `claimed.step_key` only."""

    __slots__ = ()

    def is_silent(self) -> bool:
        return not inside_step.get()  # what the handler logs on the way is logged where the run is

    async def main(self) -> None:
        try:
            if self.trial is not None:  # it does not begin: a crash of an offered step is always counted
                await self.trial.check_crashes()
            await self.call_handler()
        except Suspend:
            return
        except BaseException as error:
            await self.steps_end(keep=False)  # if it is ours that executes, its own outcome counts
            if self.ending is None and not self.tree.suspending:
                await self.fail(error)
        else:
            await self.steps_end(keep=False)
            if self.ending is None:
                await self.not_reached()

    def on_stuck(self) -> None:
        if self.ending is not None:
            return
        if self.turns.waiting:
            self.turns.skip()
        else:
            self.spawn(self.not_reached())

    def may_execute(self, key: str) -> bool:
        return key == self.claimed.step_key

    @property
    def slot_is_taken(self) -> bool:
        return (
            False  # the slot that was claimed with the step is for it, whatever else is looked up on the way
        )

    async def park(self, key: str, op: Operation, stored: bool, parked: ParkedOp | None = None) -> Operation:
        if key == self.claimed.step_key and op.attempts and op.due is not None and not stored:
            await self.commit(key, op)  # failed, and to be retried
        if key == self.claimed.step_key and stored:
            op.state = WAIT  # it is ours to execute
            return op
        return await self.tree.parked()  # type: ignore[no-any-return]

    async def commit(self, key: str, op: Operation) -> None:
        """Store the outcome of the step; always ends this execution."""
        assert key == self.claimed.step_key, "no other step may execute"
        verdict, hints = await self.ask(
            self.host.claims.commit_offered(self.claim, key, op.pack(), now_ms=self.host.clock.now_ms())
        )
        if hints:
            self.host.send_hints(hints)
        self.stop(Ending.FENCED if verdict is Verdict.FENCED else Ending.SUSPENDED)
        raise Suspend

    async def check_claim(self) -> None:
        """This process was paused: leave the step to others; if it is taken away already, this changes nothing."""
        self.stop(Ending.HANDED_BACK)
        raise Suspend

    async def not_reached(self) -> None:
        await self.fail(
            NonDeterminismError(
                f"the handler of {self.claimed.function_id} did not come to step {self.claimed.step_key!r} again; "
                "what it does must follow from its event and the results of its steps"
            )
        )

    async def fail(self, error: BaseException) -> None:
        """The handler did not come to the step: that counts as an attempt, since what failed on the way may work the next time."""
        self.ending = (
            Ending.SUSPENDED
        )  # from here on the step can't begin any more, should another branch come to it
        now_ms = self.host.clock.now_ms()
        known = self.replay.operations.get(self.claimed.step_key)
        op = Operation(
            "step", FAILED, known.index if known else 0, attempts=list(known.attempts) if known else []
        )
        due_ms = next_attempt_ms(
            self.function.spec.retries, len(op.attempts), now_ms=now_ms, error=error, jitter=random.random()
        )
        told = describe_error(error)
        if due_ms is None:
            op.error, op.ended = told, now_ms
        else:
            op.state, op.due = RETRY, due_ms
            op.attempts.append(
                [now_ms, now_ms, self.host.child_id, told["name"], told["message"], told["stack"]]
            )
        try:
            await self.commit(self.claimed.step_key, op)
        except Suspend:
            return
