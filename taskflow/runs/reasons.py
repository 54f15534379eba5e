"""Why a run or a step is not executing, in words. Rule S10.5.

Pure functions of what is stored and of the time; points in time are told in `zone`, by default the local one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo

from taskflow.flow.batch import batch_reason
from taskflow.flow.debounce import debounce_reason
from taskflow.flow.reasons import LaneState, lane_reason
from taskflow.flow.singleton import singleton_reason
from taskflow.steps.describe import describe
from taskflow.store.operation import DUE, OFFER, RETRY, TAKEN, WAIT, Operation
from taskflow.values.durations import format_duration
from taskflow.values.times import time_of_day

SILENT_MS = 6_000  # a worker's heartbeats come every 3 s
LONG_READY_MS = 3_000  # a run that is ready and next for this long is not waiting for a busy slot alone


@dataclass(frozen=True, slots=True)
class ChildRun:
    """A run that a step of this one has invoked."""

    function: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the store knows beside the run itself, as far as it tells why the run does not execute."""

    retries: int | None = None  # of its function after the first attempt; None: no worker has registered it
    ahead: int | None = None  # ready runs of its function that go first; None: the run isn't ready
    lane: LaneState | None = None  # what limits the run, when something does
    paused_ms: int | None = None  # when its function was paused
    queue_paused_ms: int | None = None  # when its queue was
    # worker id -> its last heartbeat (ms since epoch)
    workers: Mapping[str, int] = field(default_factory=dict)
    is_served: bool | None = None  # whether one of them serves the run's queue; None: not all tell
    # by run id, those of invoke
    children: Mapping[str, ChildRun] = field(default_factory=dict)


NOTHING_KNOWN = Surroundings()


@dataclass(frozen=True, slots=True)
class Moment:
    """When, and where, the reasons are told."""

    now_ms: int
    zone: tzinfo | None = None

    def at(self, ms: int) -> str:
        return time_of_day(ms, now_ms=self.now_ms, zone=self.zone)

    def left(self, ms: int) -> str:
        """ "in 3.2 s", or "now" for what is due and not yet done."""
        return f"in {format_duration(ms - self.now_ms)}" if ms > self.now_ms else "now"


def retry_reason(attempt: int, retries: int | None, due_ms: int, error: str, moment: Moment) -> str:
    """ "retry 2 of 4 in 37 s (ValueError: no)" """
    of = f" of {retries}" if retries is not None else ""
    return f"retry {attempt}{of} {moment.left(due_ms)}" + (f" ({error})" if error else "")


def step_reason(op: Operation, around: Surroundings, moment: Moment) -> str | None:
    """Why a step has no outcome yet; None when it has one, or is given up."""
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
    """What a suspended run waits for: the step that is due first, and how many others."""
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
    """What a run waits for before it is ready: its time, its debounce, its batch, or the end of another run."""
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
    """Why a ready run is not claimed."""
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
    """Where it executes; says so when that worker has gone silent, or the run is about to be cancelled."""
    text = f"running on {child_id}"
    last_ms = around.workers.get(child_id.rpartition(":")[0])
    if last_ms is not None and moment.now_ms - last_ms > SILENT_MS:
        text += f", which is silent for {format_duration(moment.now_ms - last_ms)}"
    if cancel is not None:
        return f"{text}, cancelled once its step ends: {cancel}"
    return text if around.paused_ms is None else f"{text}, paused once its step ends"
