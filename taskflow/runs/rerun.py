"""Rerun: runs a run that has ended anew, from its start or from one of its steps. Rule S10.3.

The rerun is a run of its own, with a new id, and with the event of the first run. If it starts from a step, it takes over the memos
of the steps that had ended before that one, so these are not executed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from taskflow.codecs.codecs import Codecs
from taskflow.codecs.envelope import BLOB, read_envelope
from taskflow.codecs.event_fields import encode_event
from taskflow.errors import InvalidEvent, RerunRefused
from taskflow.function import FunctionSpec
from taskflow.routing.plan import plan_run
from taskflow.run import RunStatus
from taskflow.runs.edits import NO_EDITS, Edits
from taskflow.store.control import NO_STEPS, KeptSteps
from taskflow.store.fields import text
from taskflow.store.history import StoredRun
from taskflow.store.operation import DONE, Operation, story_of
from taskflow.store.routing import RunPlan
from taskflow.types import UNCHANGED, JsonObject, RunId
from taskflow.values.record import record
from taskflow.values.shapes import shape_of
from taskflow.values.stored import begins_reference, dump

RESULTS = ("step", "invoke")  # kinds of steps whose outcome may be any JSON
SHOWN_STEPS = 10


@record
class RerunPlan:
    """A rerun to make. `event` is JSON, or empty if it is the event of the first run."""

    run: RunPlan
    event: bytes
    steps: KeptSteps
    # the runs in whose blobs outcomes of these steps lie (S12.4)
    blob_owners: frozenset[str] = frozenset()


def plan_rerun(
    stored: StoredRun,
    spec: FunctionSpec,
    *,
    new_id: RunId,
    edits: Edits = NO_EDITS,
    start_at_ms: int = 0,
    max_event_bytes: int,
    codecs: Codecs,
    now_ms: int,
) -> RerunPlan:
    """Plan the rerun of a stored run. Raises RerunRefused, InvalidEvent, SerializationError, ExpressionError."""
    status = RunStatus(text(stored.fields, "status"))
    if not status.is_final:
        raise RerunRefused(
            f"run {stored.run_id} is {status}, and only a run that has ended can be rerun: cancel it first, with "
            f"taskflow runs cancel {stored.run_id}"
        )
    event = edited_event(stored, edits.data, max_event_bytes, codecs) if edits.data is not None else b""
    wire = orjson.loads(event or stored.fields.get("event") or b"{}")
    # In the queue of the first run, which may have been sent to a queue of its own.
    queue = text(stored.fields, "queue") or None
    run = plan_run(spec, wire, run_id=new_id, queue=queue, start_at_ms=start_at_ms)
    kept = kept_steps(stored, edits, codecs, now_ms)
    return RerunPlan(run, event, kept, owners_of(stored, kept))


def owners_of(stored: StoredRun, kept: KeptSteps) -> frozenset[str]:
    """The runs in whose blobs the outcomes of kept steps lie: the run itself, those that it invoked, and its own first run."""
    outcomes = [Operation.unpack(stored.steps[key]).data for key in kept.keys]
    references = [read_envelope(data) for data in outcomes if data is not None and begins_reference(data)]
    return frozenset(reference[BLOB] for reference in references if reference is not None)


def edited_event(stored: StoredRun, data: JsonObject, max_bytes: int, codecs: Codecs) -> bytes:
    """The run's event with other data."""
    if "batched" in stored.fields:
        raise RerunRefused(f"run {stored.run_id} is for a batch of events, whose data can't be edited")
    wire = orjson.loads(stored.fields.get("event") or b"{}")
    if not isinstance(data, dict):
        raise InvalidEvent(f"data must be a JSON object (dict), got {type(data).__name__}")
    encoded = dump(
        encode_event(codecs, wire | {"data": data}, what="the edited data"), what="the edited data"
    )
    if len(encoded) > max_bytes:
        raise InvalidEvent(
            f"the edited event has {len(encoded):,} bytes of JSON, but max_event_bytes allows {max_bytes:,}"
        )
    return encoded


def kept_steps(stored: StoredRun, edits: Edits, codecs: Codecs, now_ms: int) -> KeptSteps:
    """The steps that the rerun takes over: those whose outcome the handler got before the outcome of `from_step`.

    A step that ended later may depend on that outcome. A step without outcome counts as later than all that have one.
    """
    if edits.from_step is None:
        if edits.output is not UNCHANGED:
            raise RerunRefused("output is the outcome of the step that from_step names: give that too")
        return NO_STEPS
    operations = {key: Operation.unpack(packed) for key, packed in stored.steps.items()}
    step = operations.get(edits.from_step)
    if step is None:
        raise RerunRefused(
            f"run {stored.run_id} has no step {edits.from_step!r}: {known_steps(operations)}. The second call of an id "
            "is 'id#1'."
        )
    kept, next_order = [], 0
    for key, op in story_of(operations):
        if key == edits.from_step:
            break
        kept.append(key)
        next_order = (next_order if op.order is None else op.order) + 1
    if edits.output is UNCHANGED:
        return KeptSteps(kept, next_order)
    edited = edited_outcome(edits.from_step, step, edits.output, codecs, order=next_order, now_ms=now_ms)
    return KeptSteps(kept, next_order + 1, edits.from_step, edited.pack())


def edited_outcome(
    key: str, step: Operation, output: Any, codecs: Codecs, *, order: int, now_ms: int
) -> Operation:
    """The operation of the step, changed as if the step had returned `output`."""
    if step.kind not in RESULTS and output is not None:
        raise RerunRefused(
            f"step {key!r} is a {step.kind}, whose outcome can only be None: the time is over. To go on with an event or a "
            "signal, rerun from that step and send it."
        )
    data = dump(output, shape_of(type(output)), codecs, what=f"the output of step {key!r}")
    return Operation(
        step.kind, DONE, step.index, order=order, data=data, input=step.input, started=now_ms, ended=now_ms, child=step.child
    )  # fmt: skip


def known_steps(operations: Mapping[str, Operation]) -> str:
    """The steps of a run, in words."""
    keys = sorted(operations, key=lambda key: operations[key].index)
    if not keys:
        return "it has none"
    more = f" and {len(keys) - SHOWN_STEPS} more" if len(keys) > SHOWN_STEPS else ""
    return f"it has {', '.join(map(repr, keys[:SHOWN_STEPS]))}{more}"
