"""Operation: the stored form of a step call.

Each is a field of the hash `steps:<run_id>`, packed with msgpack so that scripts can read and resolve it too. A finished operation
is the memo of its step (S4.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from taskflow.codecs.codecs import Codecs
from taskflow.errors import StepError, StepTimeout
from taskflow.values.json import pack, unpack
from taskflow.values.shape import Shape
from taskflow.values.stored import begins_reference, load

# States. `offer`: a step waits for any process with a slot. `taken`: another process executes the step (S4.4). `due`: the time of a
# retry has come. `dropped`: the run ended, or the step lost a race or was given up by user code.
DONE, FAILED, WAIT, RETRY, OFFER, TAKEN = "done", "failed", "wait", "retry", "offer", "taken"
DUE, DROPPED = "due", "dropped"
# Kinds, by the tool that makes it.
STEP, SEND, SLEEP, EVENT, SIGNAL, INVOKE, PUBLISH = (
    "step",
    "send",
    "sleep",
    "event",
    "signal",
    "invoke",
    "publish",
)
TOOLS = {
    STEP: "step.run", SEND: "step.send_event", SLEEP: "step.sleep", EVENT: "step.wait_for_event", SIGNAL: "step.wait_for_signal",
    INVOKE: "step.invoke", PUBLISH: "step.publish",
}  # fmt: skip
FINISHED = (DONE, FAILED)
PENDING = (WAIT, RETRY, OFFER, TAKEN)


@dataclass(slots=True)
class Operation:
    """A step of a run, as it is stored. Times are ms since the epoch; empty fields are not stored."""

    kind: str
    state: str
    index: int  # its place in the order of calls, from 0 (S4.5)
    order: int | None = None  # its place in the order in which outcomes reached the handler, from 0
    data: bytes | str | None = None  # the result, as it is stored: JSON that went through the codecs
    input: bytes | str | None = None  # the arguments of a step that keeps them (S10.2), as they are stored
    error: dict[str, Any] | None = None  # name, message, stack of the final error, sealed (S12.2)
    attempts: list[list[Any]] = field(
        default_factory=list
    )  # failed attempts: [started, ended, worker, name, message, stack]
    started: int | None = None
    ended: int | None = None
    worker: str | None = None  # the child that executed it
    due: int | None = None  # when a sleep, retry or timeout is due
    events: list[str] | None = None  # a wait's event names and patterns
    path: str | None = None  # a wait's equality: the event's path ...
    token: str | None = None  # ... and "path=value", as it stands in the index
    condition: str | None = None  # the rest of a wait's expression, as CEL
    signal: str | None = None  # the signal for which it waits, as app SEPARATOR name
    replaces: bool | None = None  # whether it takes the signal from the run that waits for it already
    child: str | None = None  # the run that an invoke started
    by: str | None = None  # the child that took the offered step
    fence: int | None = None  # the fence of that claim
    seq: int | None = None  # the place of the wait in the order of events
    # what `data` refers to, when that lies in a blob and was read; not stored
    fetched: bytes | None = None

    @property
    def is_away(self) -> bool:
        """Whether the outcome lies in a blob that was not read yet (S12.4)."""
        return self.data is not None and self.fetched is None and begins_reference(self.data)

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED

    @property
    def is_pending(self) -> bool:
        return self.state in PENDING

    def dropped(self) -> Operation:
        """What is stored of the operation once the run gives it up."""
        return replace(self, state=DROPPED, due=None, child=None)

    def outcome(self, step_id: str, output: Shape, codecs: Codecs) -> Any:
        """The result of a finished operation, in the type `output` (S11.3). Raises StepError for a failed one (S5.4).

        Raises SerializationError for a result of another type: the code has changed since the result was stored; and DecodeError.
        """
        if self.error is not None:
            raise step_error(codecs.opened_error(self.error), step_id)
        assert self.data is not None
        return load(
            self.data if self.fetched is None else self.fetched, output, codecs, what=f"step {step_id!r}"
        )

    def pack(self) -> bytes:
        """Pack the operation as a table by names, which scripts read. A step that is done at its first attempt is packed as a list.

        The list takes a third of the room. For a script it has no state, and so it waits for nothing.
        """
        took = None if self.started is None or self.ended is None else self.ended - self.started
        is_plain = self.state == DONE and self.kind == STEP and not self.attempts and self.input is None
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
                STEP,
                DONE,
                index,
                order,
                data,
                started=started,
                ended=started + took,
                worker=worker,
            )
        return cls(**{name: value for name, value in fields.items() if name in NAME_SET})


NAMES = tuple(name for name in Operation.__dataclass_fields__ if name != "fetched")
NAME_SET = frozenset(NAMES)


def step_error(error: dict[str, Any], step_id: str) -> StepError:
    """The exception for the handler that stands for the stored error of an operation."""
    kind = StepTimeout if error["name"] == "StepTimeout" else StepError
    return kind(error["message"], name=error["name"], step_id=step_id, stack=error.get("stack", ""))


def story_of(operations: Mapping[str, Operation]) -> list[tuple[str, Operation]]:
    """The finished operations, in the order in which their outcomes reached the handler.

    Operations that were resolved while no process had the run come last, as they have no `order` yet.
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
