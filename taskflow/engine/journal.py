"""Journal: what a run has done, as the store knows it or is to know it. Rules S3.8, S4.1, S4.5.

Pure: no loop, no store. The n-th call of a step id gets the n-th operation of that id, whichever branch it is in; `turns` sees to
it that the branches interleave as they did before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from taskflow.config import Config
from taskflow.errors import LimitExceeded, NonDeterminismError
from taskflow.steps.call import Call, check_step_id
from taskflow.store.claims import InvokedRun, ParkedOp
from taskflow.store.operation import DONE, DUE, WAIT, Operation, story_of

Waiter = asyncio.Future[Operation]

NOTHING: Mapping[Any, Any] = {}


class Journal:
    """The operations of one resident run: those loaded with its claim, those that wait, and what the store is to be told."""

    __slots__ = (
        "attempt", "bytes", "function_id", "is_over", "is_strict", "last_index", "config", "news", "next_index",
        "notes", "operations", "order_warning", "pending", "places", "run_id", "unmet", "unstored", "used",
    )  # fmt: skip

    def __init__(
        self,
        steps: Mapping[str, bytes],
        run_id: str,
        function_id: str,
        attempt: int,
        is_strict: bool,
        config: Config,
    ) -> None:
        """`attempt`, `steps`: as claimed; `is_strict`: another order of calls fails the run (S4.5)."""
        self.run_id = run_id
        self.function_id = function_id
        self.is_strict = is_strict
        self.config = config
        # Failures of the code between the steps since the last step that completed.
        self.attempt = attempt
        # of all operations
        self.bytes = 0
        # step id -> how often it was called
        self.used: dict[str, int] = {}
        self.next_index = 0
        # of the last known operation that was called
        self.last_index = -1
        # what is wrong with the order of calls; None until it is, empty once it was told
        self.order_warning: str | None = None
        self.operations: Mapping[str, Operation] = NOTHING
        # known operations that were not called yet
        self.unmet: set[str] | None = None
        # those that were resolved, or fell due, since the handler was here
        self.news: Collection[str] = ()
        # the keys of the known operations by their place in the order of calls
        self.places: Mapping[int, str] = NOTHING
        # The handler does what it never did before.
        self.is_over = not steps
        # Operations that something else resolves, by step key, with who waits for each.
        self.pending: dict[str, Waiter] = {}
        # those of them that the store does not know yet
        self.unstored: dict[str, ParkedOp] = {}
        # finished operations whose place in the order of outcomes the store does not know yet, packed
        self.notes: dict[str, bytes] = {}
        if steps:
            self.load(steps)

    def load(self, steps: Mapping[str, bytes]) -> None:
        self.bytes = sum(map(len, steps.values()))
        self.operations = {key: Operation.unpack(packed) for key, packed in steps.items()}
        self.unmet = set(self.operations)
        self.places = {op.index: key for key, op in self.operations.items()}
        self.news = {
            key
            for key, op in self.operations.items()
            if op.state == DUE or (op.is_finished and op.order is None)
        }

    def story(self) -> tuple[list[str], int]:
        """The keys of what is finished, in the order in which the handler saw it or is to see it, and the next place in that order.

        What was resolved while nobody executed the run comes last: it gets its place here, and a note of that.
        """
        keys = []
        next_order = 0
        for key, op in story_of(self.operations):
            if op.order is None:
                op.order = next_order
                self.notes[key] = op.pack()
            next_order = op.order + 1
            keys.append(key)
        return keys, next_order

    def attempt_of(self, key: str) -> Operation:
        """A step of which one more attempt has ended, with those that the store knows."""
        known = self.operations.get(key)
        if known is None:
            return Operation("step", WAIT, 0)
        return Operation("step", WAIT, known.index, input=known.input, attempts=known.attempts)

    def not_met(self, key: str) -> NonDeterminismError:
        """The handler did not come to a step that another process has offered."""
        return NonDeterminismError(
            f"the handler of {self.function_id} did not come to step {key!r} again; "
            "what it does must follow from its event and the results of its steps"
        )

    # --- replay ---

    @property
    def is_replaying(self) -> bool:
        """True while the handler goes through what it did before: its log lines were written then (S10.6).

        A suspended run had gone as far as it could, so all is old until the handler gets the first of the news. How far one came
        whose process died, nobody knows: what follows its last memo counts as new.
        """
        return not self.is_over and bool(self.news or self.unmet)

    def reached(self, key: str) -> None:
        """The known outcome of `key` reaches the handler."""
        if key in self.news:
            self.is_over = True

    def went_on(self) -> None:
        """A new outcome has reached the handler."""
        self.is_over = True

    def call(self, step_id: str) -> Call:
        """The next call of a step tool. Raises what S3.10 and S4.5 ask for."""
        if step_id not in self.used:
            check_step_id(step_id)
        key = self.key_for(step_id)
        index = self.next_index
        self.next_index += 1
        if index >= self.config.max_steps:
            raise LimitExceeded(
                f"step {step_id!r} would be number {index + 1}, but a run has at most {self.config.max_steps} steps. "
                "Split the work with step.invoke or step.send_event, or raise TaskFlow(max_steps=...)."
            )
        known = self.operations.get(key)
        if known is None:
            self.check_insertion(step_id, index)
            self.is_over = True
        else:
            self.check_order(step_id, known, index)
            if self.unmet:
                self.unmet.discard(key)
        return Call(step_id, key, index, known)

    def key_for(self, step_id: str) -> str:
        count = self.used.get(step_id, 0)
        self.used[step_id] = count + 1
        if not count:
            return step_id
        key = f"{step_id}#{count}"
        if key in self.used:  # somebody named a step so
            return self.key_for(step_id)
        self.used[key] = 1
        return key

    def check_order(self, step_id: str, known: Operation, index: int) -> None:
        if known.index < self.last_index:
            self.complain(
                f"step {step_id!r} came at place {known.index + 1} before, and now after one of place {self.last_index + 1}"
            )
        elif self.is_strict and known.index != index:
            self.complain(f"step {step_id!r} came at place {known.index + 1} before, and now at {index + 1}")
        self.last_index = max(self.last_index, known.index)

    def check_insertion(self, step_id: str, index: int) -> None:
        # A place without a memo may be that of a parallel step which was executing when the process died.
        if self.is_strict and index in self.places:
            self.complain(
                f"step {step_id!r} at place {index + 1} is new: {self.places[index]!r} came there before"
            )

    def complain(self, what: str) -> None:
        if self.is_strict:
            raise NonDeterminismError(
                f"{self.function_id}: {what}. The code changed under a live run, and determinism is 'strict'. "
                "Deploy the old code until its runs have ended, or use determinism='warn'."
            )
        if self.order_warning is None:
            self.order_warning = what

    def take_warning(self) -> str:
        """What is wrong with the order of calls, once; else empty."""
        warning, self.order_warning = self.order_warning, ""
        return warning or ""

    # --- outcomes ---

    def ended(self, key: str, op: Operation) -> list[str | bytes]:
        """A step has an outcome: what a commit of it stores, notes first. Raises LimitExceeded when the run holds too much."""
        packed = op.pack()
        self.bytes += len(packed)
        self.check_size()
        if not self.notes:
            return [key, packed]
        notes, self.notes = self.notes, {}
        return [*(part for note in notes.items() for part in note), key, packed]

    def committed(self, op: Operation) -> None:
        """The outcome of a step is stored, or resolved elsewhere: a success lets the code between the steps fail anew (S5.1)."""
        if op.state == DONE:
            self.attempt = 0

    def check_size(self) -> None:
        if self.bytes > self.config.max_run_bytes:
            raise LimitExceeded(
                f"the steps of run {self.run_id} hold {self.bytes:,} bytes, but at most {self.config.max_run_bytes:,} are allowed "
                "(max_run_bytes). Keep large results elsewhere and return a reference."
            )

    # --- what something else resolves ---

    def park(self, key: str, waiter: Waiter) -> None:
        """A branch waits for an operation."""
        self.pending[key] = waiter

    def leave(self, key: str) -> bool:
        """The branch waits no more. True when it did."""
        return self.pending.pop(key, None) is not None

    def store(self, key: str, op: Operation, child: InvokedRun | None = None) -> None:
        """The store is to know of a pending operation."""
        self.unstored[key] = ParkedOp(key, op.pack(), child)

    def withdraw(self, key: str) -> bool:
        """The store need not know of an operation after all. True when it does not know of it yet."""
        return self.unstored.pop(key, None) is not None

    def take_unstored(self) -> list[ParkedOp]:
        """All that the store is to be told: notes, then the pending operations that it does not know."""
        ops = [*(ParkedOp(key, packed) for key, packed in self.notes.items()), *self.unstored.values()]
        self.notes, self.unstored = {}, {}
        return ops

    def asked(self) -> dict[str, Waiter]:
        """What the store can know the fate of.

        Of what is not stored yet, it may know an earlier state: that its last retry was due, say.
        """
        return {key: waiter for key, waiter in self.pending.items() if key not in self.unstored}

    def news_of(
        self, asked: Mapping[str, Waiter], packed_ops: Sequence[bytes | None]
    ) -> list[tuple[str, Operation]]:
        """What became of the operations that were asked for: those that let their branches go on, in the order of their ends."""
        found = [
            (key, Operation.unpack(packed))
            for key, packed in zip(asked, packed_ops, strict=True)
            # else parked anew meanwhile
            if packed is not None and self.pending.get(key) is asked[key]
        ]
        return sorted(
            ((key, op) for key, op in found if op.is_finished or op.state == DUE),
            key=lambda item: (item[1].ended or 0, item[1].index),
        )

    def resolved(self, key: str, op: Operation) -> None:
        """A pending operation has an outcome, whose place in the order (`op.order`) goes with the next commit."""
        packed = self.notes[key] = op.pack()
        self.bytes += len(packed)
        self.committed(op)

    def may_have_pending(self, status: str) -> bool:
        """Whether the store may hold pending operations of a run that ends so.

        A handler that was unwound leaves none here, though it had parked some.
        """
        if status != "completed" or self.pending or self.unstored:
            return True
        return bool(self.operations) and any(op.is_pending for op in self.operations.values())
