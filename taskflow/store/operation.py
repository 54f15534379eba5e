"""An operation of a run: what a step call stands for in the store.

One field of the hash `steps:<run_id>` each, packed with msgpack so that scripts can read and resolve it too. A finished
operation is the memo of its step (S4.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taskflow.errors import StepError, StepTimeout
from taskflow.values.json import pack, unpack
from taskflow.values.shape import ANY, Shape
from taskflow.values.stored import load

# States. `offer` is a step that waits for any process with a slot, `taken` one that another process executes (S4.4); `due` is
# a retry whose time has come; `dropped` belonged to a run that ended, or lost a race.
DONE, FAILED, WAIT, RETRY, OFFER, TAKEN = "done", "failed", "wait", "retry", "offer", "taken"
DUE, DROPPED = "due", "dropped"
FINISHED = (DONE, FAILED)
PENDING = (WAIT, RETRY, OFFER, TAKEN)


@dataclass(slots=True)
class Operation:
    """What is known of one step. Times are ms since the epoch; what is empty is not stored."""

    kind: str  # step, sleep, event, signal, invoke
    state: str
    index: int  # its place in the order of calls, from 0 (S4.5)
    order: int | None = None  # its place in the order in which outcomes reached the handler, from 0
    data: bytes | str | None = None  # the result, as JSON
    input: bytes | str | None = None  # the arguments of a step that keeps them (S10.2), as JSON
    error: dict[str, Any] | None = None  # name, message, stack of the final error
    attempts: list[list[Any]] = field(
        default_factory=list
    )  # failed ones: [started, ended, worker, name, message, stack]
    started: int | None = None
    ended: int | None = None
    worker: str | None = None  # the child that executed it
    due: int | None = None  # of a sleep, retry or timeout
    events: list[str] | None = None  # a wait's event names and patterns
    path: str | None = None  # a wait's equality: the event's path ...
    token: str | None = None  # ... and "path=value", as it stands in the index
    condition: str | None = None  # what is left of a wait's expression, as CEL
    signal: str | None = None  # that it waits for, as app SEPARATOR name
    replaces: bool | None = None  # it takes the signal from who waits for it already
    child: str | None = None  # the run that an invoke started
    by: str | None = None  # the child that took the offered step
    fence: int | None = None  # of that claim
    seq: int | None = None  # when the wait was stored, in the order of events

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED

    @property
    def is_pending(self) -> bool:
        return self.state in PENDING

    def outcome(self, step_id: str, output: Shape = ANY) -> Any:
        """What the handler gets of a finished operation: its result, of the type `output` (S11.3), or StepError is raised (S5.4).

        Raises SerializationError for a result of another type: the code has changed since it was stored.
        """
        if self.error is not None:
            raise step_error(self.error, step_id)
        assert self.data is not None
        return load(self.data, output, what=f"step {step_id!r}")

    def pack(self) -> bytes:
        """As a table by names, which scripts read; a step that is done, at its first attempt, as a list, in a third of the room.

        To a script that has no state, and so it waits for nothing.
        """
        took = None if self.started is None or self.ended is None else self.ended - self.started
        is_plain = self.state == DONE and self.kind == "step" and not self.attempts and self.input is None
        if is_plain and took is not None:
            return pack((self.index, self.order, self.data, self.started, took, self.worker))
        fields = {name: value for name in NAMES if (value := getattr(self, name)) not in (None, [])}
        return pack(fields)

    @classmethod
    def unpack(cls, packed: bytes) -> Operation:
        fields = unpack(packed)
        if isinstance(fields, list):
            index, order, data, started, took, worker = fields
            return cls(
                "step",
                DONE,
                index,
                order,
                data,
                started=started,
                ended=started + took,
                worker=worker,
            )
        return cls(**{name: value for name, value in fields.items() if name in NAME_SET})


NAMES = tuple(Operation.__dataclass_fields__)
NAME_SET = frozenset(NAMES)


def step_error(error: dict[str, Any], step_id: str) -> StepError:
    """What the handler meets for the stored error of an operation."""
    kind = StepTimeout if error["name"] == "StepTimeout" else StepError
    return kind(error["message"], name=error["name"], step_id=step_id, stack=error.get("stack", ""))


def story_of(operations: Mapping[str, Operation]) -> list[tuple[str, Operation]]:
    """Finished operations in the order in which their outcomes reached the handler.

    What was resolved while nobody executed the run comes last: it has no `order` yet.
    """
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
