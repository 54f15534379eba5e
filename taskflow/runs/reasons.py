"""Says in words why a run or a step is not executing. Rule S10.5.

Pure functions of the stored facts and of the time. Points in time are shown in `zone`, by default the local time zone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import tzinfo

from taskflow.flow.batch import batch_reason
from taskflow.flow.debounce import debounce_reason
from taskflow.flow.reasons import LaneState, lane_reason
from taskflow.flow.singleton import singleton_reason
from taskflow.steps.describe import describe
from taskflow.store.operation import DUE, OFFER, RETRY, TAKEN, WAIT, Operation
from taskflow.values.durations import format_duration
from taskflow.values.record import record
from taskflow.values.times import time_of_day

SILENT_MS = 6_000  # a worker's heartbeats come every 3 s
LONG_READY_MS = 3_000  # a run that is ready and next for longer than this waits for more than a busy slot


@record
class ChildRun:
    """A run that a step of this run has invoked."""

    function: str
    status: str


@record(kw_only=True)
class Surroundings:
    """The stored facts around a run that explain why it does not execute."""

    # its function's attempts after the first; None if no worker has registered the function
    retries: int | None = None
    ahead: int | None = None  # how many ready runs of its function go first; None if the run isn't ready
    lane: LaneState | None = None  # the limits that hold the run up, if there are any
    paused_ms: int | None = None  # when its function was paused
    queue_paused_ms: int | None = None  # when its queue was
    # worker id -> its last heartbeat (ms since epoch)
    workers: Mapping[str, int] = field(default_factory=dict)
    # whether a worker serves the run's queue; None if not all workers say what they serve
    is_served: bool | None = None
    # run id -> run that a step has invoked
    children: Mapping[str, ChildRun] = field(default_factory=dict)


NOTHING_KNOWN = Surroundings()


@record
class Moment:
    """The time, and the time zone, for which reasons are given."""

    now_ms: int
    zone: tzinfo | None = None

    def at(self, ms: int) -> str:
        return time_of_day(ms, now_ms=self.now_ms, zone=self.zone)

    def left(self, ms: int) -> str:
        """The time until `ms`: "in 3.2 s", or "now" if it is due."""
        return f"in {format_duration(ms - self.now_ms)}" if ms > self.now_ms else "now"


def retry_reason(attempt: int, retries: int | None, due_ms: int, error: str, moment: Moment) -> str:
    """The reason of a run or step that waits for its next attempt: "retry 2 of 4 in 37 s (ValueError: no)"."""
    of = f" of {retries}" if retries is not None else ""
    return f"retry {attempt}{of} {moment.left(due_ms)}" + (f" ({error})" if error else "")


def decode_reason(due_ms: int, error: str, moment: Moment) -> str:
    """The reason of a run that waits for a key or a blob (S12.2): "waiting to be tried again in 37 s (UnknownKey: ...)"."""
    return f"waiting to be tried again {moment.left(due_ms)} ({error})"


def step_reason(op: Operation, around: Surroundings, moment: Moment) -> str | None:
    """The reason why a step has no outcome yet; None if it has one, or was dropped."""
    if op.state == DUE:
        return "its retry is due"
    if op.state == RETRY:
        return retry_reason(len(op.attempts), around.retries, op.due or moment.now_ms, "", moment)
    if op.state == OFFER:
        return "queued: waits for a free slot of any worker process"
    if op.state == TAKEN:
        return f"running on {op.by}"
    if op.state != WAIT:
        return None
    if op.kind == "sleep":
        due_ms = op.due or moment.now_ms
        return f"sleeping until {moment.at(due_ms)} ({moment.left(due_ms)})"
    until = f" until {moment.at(op.due)}" if op.due else ""
    return f"waiting: {describe(op)}{child_text(op, around)}{until}"


def child_text(op: Operation, around: Surroundings) -> str:
    child = around.children.get(op.child or "")
    return f" of {child.function} ({child.status})" if child else ""


def waiting_reason(ops: list[Operation], around: Surroundings, moment: Moment) -> str:
    """The reason of a suspended run: the step that is due first, and the number of others."""
    pending = sorted(
        (op for op in ops if op.is_pending), key=lambda op: (op.due is None, op.due or 0, op.index)
    )
    if not pending:
        return "waiting"
    first = step_reason(pending[0], around, moment) or "waiting"
    return first if len(pending) == 1 else f"{first}, and {len(pending) - 1} more"


def scheduled_reason(
    due_ms: int | None, gathers: str, batched: int, batch_size: int, behind: str, moment: Moment
) -> str:
    """The reason of a run that is not ready yet: its time, its debounce, its batch, or the end of another run."""
    if behind:
        return singleton_reason(behind)
    if due_ms is None:
        return "scheduled"
    if gathers.startswith("debounce:"):
        return debounce_reason(moment.at(due_ms))
    if gathers.startswith("batching:"):
        return batch_reason(batched, batch_size, moment.at(due_ms))
    return f"scheduled for {moment.at(due_ms)} ({moment.left(due_ms)})"


def queued_reason(
    function: str, queue: str, ready_since_ms: int, around: Surroundings, moment: Moment
) -> str:
    """The reason why a ready run is not claimed yet."""
    if around.paused_ms is not None:
        return f"paused since {moment.at(around.paused_ms)}: taskflow resume {function}"
    if around.queue_paused_ms is not None:
        queue_id = f"{function.partition('/')[0]}/{queue}"
        return f"queue paused since {moment.at(around.queue_paused_ms)}: taskflow queues resume {queue_id}"
    if around.lane is not None and (reason := lane_reason(around.lane, now_ms=moment.now_ms)):
        return reason
    if around.retries is None:
        return f"queued: no worker has registered {function}"
    if not around.workers:
        return f'queued: no worker serves queue "{queue}" (none gives a sign of life)'
    if around.is_served is False:
        return f'queued: no worker serves queue "{queue}"'
    if around.ahead:
        runs = "run" if around.ahead == 1 else "runs"
        is_are = "is" if around.ahead == 1 else "are"
        return f"queued: {around.ahead:,} {runs} of {function} {is_are} ahead"
    waited_ms = moment.now_ms - ready_since_ms
    if waited_ms < LONG_READY_MS:
        return f"queued: next of {function}"
    none = "" if around.is_served else f', or none serves queue "{queue}"'
    return f"queued: next of {function} for {format_duration(waited_ms)}; workers are busy{none}"


def running_reason(child_id: str, cancel: str | None, around: Surroundings, moment: Moment) -> str:
    """Where the run executes; also whether that worker is silent, and whether the run is to be cancelled or paused."""
    text = f"running on {child_id}"
    last_ms = around.workers.get(child_id.rpartition(":")[0])
    if last_ms is not None and moment.now_ms - last_ms > SILENT_MS:
        text += f", which is silent for {format_duration(moment.now_ms - last_ms)}"
    if cancel is not None:
        return f"{text}, cancelled once its step ends: {cancel}"
    return text if around.paused_ms is None else f"{text}, paused once its step ends"
