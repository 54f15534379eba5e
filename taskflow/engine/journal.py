"""Journal: the operations of a run, those that the store knows and those that it has to be told. Rules S3.8, S4.1, S4.5.

Pure: no loop, no store. The n-th call of a step id gets the n-th operation of that id, in whichever branch it is; `turns` makes the
branches interleave as they did before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from taskflow.config import Config
from taskflow.errors import DecodeError, LimitExceeded, NonDeterminismError
from taskflow.steps.call import Call, check_step_id
from taskflow.store.claims import InvokedRun, ParkedOp
from taskflow.store.operation import DONE, DUE, STEP, TOOLS, WAIT, Operation, story_of

Waiter = asyncio.Future[Operation]

NOTHING: Mapping[Any, Any] = {}


class Journal:
    """The operations of one run: those loaded with its claim, those that wait, and those that the store has to be told."""

    __slots__ = (
        "attempt", "bytes", "function_id", "has_given_up", "is_over", "is_strict", "last_index", "config", "news", "next_index",
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
        """`attempt` and `steps` are those of the claim. `is_strict`: another order of calls fails the run (S4.5)."""
        self.run_id = run_id
        self.function_id = function_id
        self.is_strict = is_strict
        self.config = config
        # Failures of the code between the steps since the last step that completed.
        self.attempt = attempt
        # the size of all operations together
        self.bytes = 0
        # step id -> how often it was called
        self.used: dict[str, int] = {}
        self.next_index = 0
        # the place of the last known operation that was called
        self.last_index = -1
        # a complaint about the order of calls: None while there is none, empty once it was logged
        self.order_warning: str | None = None
        self.operations: Mapping[str, Operation] = NOTHING
        # known operations that were not called yet
        self.unmet: set[str] | None = None
        # keys of operations that were resolved, or fell due, since the handler was last called
        self.news: Collection[str] = ()
        # the keys of the known operations by their place in the order of calls
        self.places: Mapping[int, str] = NOTHING
        # The replay is over: the handler does what it never did before.
        self.is_over = not steps
        # Pending operations by step key, with the waiter of each.
        self.pending: dict[str, Waiter] = {}
        # the pending operations that the store does not know yet
        self.unstored: dict[str, ParkedOp] = {}
        # finished operations whose place in the order of outcomes the store does not know yet, and those that were given up, packed
        self.notes: dict[str, bytes] = {}
        # whether there are such that were given up
        self.has_given_up = False
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
        """The keys of the finished operations, in the order in which the handler gets their outcomes, and the next place in it.

        Operations that were resolved while no process had the run come last: they get their places here, and a note for the store.
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

    def counted(self, error: BaseException) -> int:
        """How many attempts at the code between the steps have failed, after this error. To wait for a key uses up none (S12.2)."""
        return self.attempt if isinstance(error, DecodeError) and error.passes else self.attempt + 1

    def attempt_of(self, key: str) -> Operation:
        """The operation of a step whose next attempt has ended, with the earlier attempts that the store knows."""
        known = self.operations.get(key)
        if known is None:
            return Operation(STEP, WAIT, 0)
        return Operation(known.kind, WAIT, known.index, input=known.input, attempts=known.attempts)

    def not_met(self, key: str) -> NonDeterminismError:
        """The error for a handler that does not come to the step that another process has offered."""
        return NonDeterminismError(
            f"the handler of {self.function_id} did not come to step {key!r} again; "
            "what it does must follow from its event and the results of its steps"
        )

    # --- replay ---

    @property
    def is_replaying(self) -> bool:
        """True while the handler does again what it did before: its log lines were written then (S10.6).

        A suspended run had gone as far as it could, so all is old until the handler gets the first new outcome. If the process of
        the run died, nobody knows how far the handler came: all that follows its last memo counts as new.
        """
        return not self.is_over and bool(self.news or self.unmet)

    def reached(self, key: str) -> None:
        """Note that the known outcome of `key` reaches the handler."""
        if key in self.news:
            self.is_over = True

    def went_on(self) -> None:
        """Note that a new outcome has reached the handler: the replay is over."""
        self.is_over = True

    def call(self, step_id: str, kind: str = STEP) -> Call:
        """Note the next call of a step tool. Raises LimitExceeded (S3.10) and NonDeterminismError (S4.5).

        The known operation may be of another kind than `kind`, or dropped: then it does not count, see `forget`.
        """
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
            if known.kind != kind and self.is_strict:
                self.complain(
                    f"step {step_id!r} was a {TOOLS[known.kind]} before, and is a {TOOLS[kind]} now"
                )
            self.check_order(step_id, known, index)
            if self.unmet:
                self.unmet.discard(key)
        return Call(step_id, key, index, known)

    def forget(self, key: str) -> None:
        """Forget a known operation that does not count any more. The handler now does what it never did before."""
        assert isinstance(self.operations, dict), "only what was loaded is known"
        self.bytes -= len(self.operations.pop(key).pack())
        self.notes.pop(key, None)
        self.is_over = True

    def key_for(self, step_id: str) -> str:
        count = self.used.get(step_id, 0)
        self.used[step_id] = count + 1
        if not count:
            return step_id
        key = f"{step_id}#{count}"
        if key in self.used:  # another step has this key as its id
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
        # A place without a memo may belong to a parallel step that was executing when the process died.
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
        """The complaint about the order of calls; it is returned once, then empty."""
        warning, self.order_warning = self.order_warning, ""
        return warning or ""

    # --- outcomes ---

    def ended(self, key: str, op: Operation) -> list[str | bytes]:
        """The keys and memos to commit for a step's outcome, notes first. Raises LimitExceeded when the run holds too much."""
        packed = op.pack()
        self.bytes += len(packed)
        self.check_size()
        if not self.notes:
            return [key, packed]
        notes, self.notes, self.has_given_up = self.notes, {}, False
        return [*(part for note in notes.items() for part in note), key, packed]

    def committed(self, op: Operation) -> None:
        """Note that an outcome is stored. A success resets the attempts at the code between the steps (S5.1)."""
        if op.state == DONE:
            self.attempt = 0

    def check_size(self) -> None:
        if self.bytes > self.config.max_run_bytes:
            raise LimitExceeded(
                f"the steps of run {self.run_id} hold {self.bytes:,} bytes, but at most {self.config.max_run_bytes:,} are allowed "
                "(max_run_bytes). Keep large results elsewhere and return a reference."
            )

    # --- pending operations ---

    def park(self, key: str, waiter: Waiter) -> None:
        """Note that a branch waits for an operation."""
        self.pending[key] = waiter

    def leave(self, key: str) -> bool:
        """Note that the branch waits no more; return whether it did."""
        return self.pending.pop(key, None) is not None

    def store(self, key: str, op: Operation, child: InvokedRun | None = None) -> None:
        """Have a pending operation stored."""
        self.unstored[key] = ParkedOp(key, op.pack(), child)

    def withdraw(self, key: str) -> bool:
        """Don't have an operation stored after all; return False if the store knows it already."""
        return self.unstored.pop(key, None) is not None

    def take_unstored(self) -> list[ParkedOp]:
        """Take all operations that the store has to be told: notes, then the pending operations that it does not know."""
        ops = [*(ParkedOp(key, packed) for key, packed in self.notes.items()), *self.unstored.values()]
        self.notes, self.unstored, self.has_given_up = {}, {}, False
        return ops

    def give_up(self, key: str, op: Operation) -> None:
        """Note that user code, or a race, has given up a call, which no replay is to begin again. It is stored with the next write.

        That write overwrites what is stored: nobody but this process may have the operation.
        """
        self.notes[key] = op.dropped().pack()
        self.has_given_up = True

    def asked(self, keys: Iterable[str] | None = None) -> dict[str, Waiter]:
        """The pending operations, of `keys` or of all, whose outcome the store can know, which are those that are stored.

        For an operation that is not stored yet, the store may have an earlier state: that its last retry was due, for example.
        """
        pending = self.pending
        found = pending if keys is None else [key for key in keys if key in pending]
        return {key: pending[key] for key in found if key not in self.unstored}

    def news_of(
        self, asked: Mapping[str, Waiter], packed_ops: Sequence[bytes | None]
    ) -> list[tuple[str, Operation]]:
        """The operations, of those that were asked for, that let their branches go on; in the order of their ends."""
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
        """Note the outcome of a pending operation. Its place in the order (`op.order`) is stored with the next commit."""
        packed = self.notes[key] = op.pack()
        self.bytes += len(packed)
        self.committed(op)

    def may_have_pending(self, status: str) -> bool:
        """Whether the store may have pending operations of a run that ends with this status.

        After an unwound handler there are none here, though it may have parked some.
        """
        if status != "completed" or self.pending or self.unstored:
            return True
        return bool(self.operations) and any(op.is_pending for op in self.operations.values())
