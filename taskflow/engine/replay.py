"""What a run has done before: memos by step. Rules S3.8, S4.1, S4.5.

The n-th call of a step id gets the n-th memo of that id, whichever branch it is in; `turns` sees to it that the branches
interleave as they did before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from taskflow.errors import LimitExceeded, NonDeterminismError, NonRetriableError
from taskflow.store.operation import DUE, Operation

MAX_STEP_ID_CHARS = 256
UNPRINTABLE = re.compile(r"[\x00-\x1f]")


@dataclass(slots=True)
class Call:
    """One call of a step tool."""

    key: str  # the step id, with #1, #2, ... when it was used before
    index: int  # its place in the order of calls
    known: Operation | None


class Replay:
    """The operations of one run, as loaded with its claim."""

    __slots__ = (
        "function_id", "is_over", "is_strict", "last_index", "max_steps", "news", "next_index", "operations", "order_warning",
        "places", "unmet", "used",
    )  # fmt: skip

    def __init__(self, steps: dict[str, bytes], *, function_id: str, is_strict: bool, max_steps: int) -> None:
        self.function_id = function_id
        self.is_strict = is_strict
        self.max_steps = max_steps
        self.used: dict[str, int] = {}  # step id -> how often it was called
        self.next_index = 0
        self.last_index = -1  # of the last known operation that was called
        self.order_warning: str | None = None
        self.operations: dict[str, Operation] = {}
        self.unmet: set[str] = set()  # known operations that were not called yet
        self.news: set[str] = set()  # those that were resolved, or fell due, since the handler was here
        self.places: dict[
            int, str
        ] = {}  # the keys of the known operations by their place in the order of calls
        self.is_over = not steps  # the handler does what it never did before
        if steps:
            self.load(steps)

    def load(self, steps: dict[str, bytes]) -> None:
        self.operations = {key: Operation.unpack(packed) for key, packed in steps.items()}
        self.unmet = set(self.operations)
        self.places = {op.index: key for key, op in self.operations.items()}
        self.news = {
            key
            for key, op in self.operations.items()
            if op.state == DUE or (op.is_finished and op.order is None)
        }

    def story(self) -> list[tuple[str, Operation]]:
        """Finished operations in the order in which the handler saw them.

        What was resolved while nobody executed the run comes last: it has no `order` yet.
        """
        return story_of(self.operations)

    @property
    def is_replaying(self) -> bool:
        """True while the handler goes through what it did before: its log lines were written then (S10.6).

        A suspended run had gone as far as it could, so all is old until the handler gets the first of the news. How far one came
        whose process died, nobody knows: what follows its last memo counts as new.
        """
        return not self.is_over and bool(self.news or self.unmet)

    def reached(self, key: str) -> None:
        """The outcome of `key` reaches the handler."""
        if key in self.news:
            self.is_over = True

    def call(self, step_id: str) -> Call:
        """The next call of a step tool. Raises what S3.10 and S4.5 ask for."""
        if step_id not in self.used:
            check_step_id(step_id)
        key = self.key_for(step_id)
        index = self.next_index
        self.next_index += 1
        if index >= self.max_steps:
            raise LimitExceeded(
                f"step {step_id!r} would be number {index + 1}, but a run has at most {self.max_steps} steps. "
                "Split the work with step.invoke or step.send_event, or raise TaskFlow(max_steps=...)."
            )
        known = self.operations.get(key)
        if known is None:
            self.check_insertion(step_id, index)
            self.is_over = True
        else:
            self.check_order(step_id, known, index)
            self.unmet.discard(key)
        return Call(key, index, known)

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


def story_of(operations: Mapping[str, Operation]) -> list[tuple[str, Operation]]:
    """Finished operations in the order in which their outcomes reached the handler; see `Replay.story`."""
    unseen = 1 << 62
    finished = [(key, op) for key, op in operations.items() if op.is_finished]
    return sorted(
        finished,
        key=lambda item: (
            unseen if item[1].order is None else item[1].order,
            item[1].ended or 0,
            item[1].index,
        ),
    )


def check_step_id(step_id: object) -> None:
    """Refuse an id that can't name a step."""
    if isinstance(step_id, str) and 0 < len(step_id) <= MAX_STEP_ID_CHARS and not UNPRINTABLE.search(step_id):
        return
    raise NonRetriableError(
        f"a step id must be a string of 1 to {MAX_STEP_ID_CHARS} printable characters, but is {step_id!r:.80}. "
        "The first argument of every step tool is its id: step.run('charge', charge_card, order)"
    )
