"""Health of a worker: reports children that make no progress, and answers probes from the supervisor's notes. S9.9, S13.3."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from taskflow.observability.families import CHILDREN, READY
from taskflow.observability.health import Finding, Probes
from taskflow.observability.metrics import Tally
from taskflow.values.record import record
from taskflow.worker.lease import Lease, Progress
from taskflow.worker.supervisor.children import Child, ChildState, Seat
from taskflow.worker.supervisor.metrics import WorkerMetrics

SUPERVISOR_LIMIT_S = 30.0
"""A supervisor that has not turned for so long makes no progress. A turn waits 3 s for events and a few seconds for the store, and
longer when the resolver of names does not answer, which nobody can limit: a liveness that failed then would depend on the store."""

logger = logging.getLogger("taskflow.worker")


def report_if_stuck(child: Child, *, limit_s: float, now_s: float) -> None:
    """Log once when a child does not become ready, or its event loop stands still for `limit_s`.

    It only logs: the child may be working. One that stands still for much longer is replaced (see `Stalls`).
    """
    is_starting = child.state is ChildState.STARTING
    age_s = now_s - child.started_s if is_starting else child.process.progress.loop_age_s
    is_stuck = age_s is not None and age_s >= limit_s
    if is_stuck is child.is_reported:
        return
    child.is_reported = is_stuck
    if not is_stuck:
        logger.info("%s goes on", child)
    elif is_starting:
        logger.warning("%s is not ready after %g s: does the import of the app block?", child, limit_s)
    else:
        logger.warning(
            "%s: event loop blocked for %g s: a blocking call in an async handler?", child, limit_s
        )


@record(kw_only=True)
class ChildNote:
    """A child as the supervisor last noted it. `progress` and `lease` are shared with the child, so they are current."""

    name: str
    child_id: str
    pid: int
    state: ChildState
    since: str  # when it came into this state, ISO 8601 in UTC
    is_helper: bool
    is_being_replaced: bool
    progress: Progress
    lease: Lease

    def stall(self, limit_s: float) -> str:
        """How long its event loop has stood still, in words; empty while it turns, or before the child is ready."""
        if self.state is not ChildState.RUNNING:
            return ""
        try:
            age_s = self.progress.loop_age_s or 0.0
        except ValueError:  # the supervisor has closed the memory this moment: the child has ended
            return ""
        return f"its event loop has stood still for {age_s:.1f} s" if age_s >= limit_s else ""

    def problem(self, limit_s: float) -> str:
        """Why this child takes no work; empty if it does."""
        if self.state is not ChildState.RUNNING:
            return f"it is {self.state.value}"
        if stall := self.stall(limit_s):
            return stall
        if self.is_helper:
            return ""
        try:
            lost_s = self.progress.broker_lost_s
            if lost_s is not None:
                return f"it has had no connection to the broker for {lost_s:.1f} s"
            if not self.lease.is_valid():
                return "its lease is over: the store has not confirmed that it lives"
        except ValueError:
            return "it has ended"
        return ""

    def told(self, limit_s: float) -> dict[str, Any]:
        return {
            "child": self.child_id,
            "name": self.name,
            "pid": self.pid,
            "state": self.state.value,
            "since": self.since,
            "problem": self.problem(limit_s),
        }


@record(kw_only=True)
class WorkerNote:
    """A worker at the end of one of its supervisor's turns."""

    turned_s: float  # time.monotonic()
    is_draining: bool = False
    has_started: bool = False
    outage: str = ""  # why the last heartbeat failed
    children: tuple[ChildNote, ...] = ()


class WorkerHealth:
    """What a worker's probes answer. The supervisor calls `note` each turn; another thread asks, and reads whole notes."""

    def __init__(self, *, blocked_after_s: float) -> None:
        self.blocked_after_s = blocked_after_s  # an event loop that stands still for so long is not live
        self.latest = WorkerNote(turned_s=time.monotonic())
        self.counted = WorkerMetrics()

    def note(
        self, children: Mapping[Child, Seat], *, is_draining: bool, is_running: bool, outage: str
    ) -> None:
        """Note the state of the worker; `is_running`: a child has been ready, and nobody has asked the worker to end."""
        before = {child.child_id: child for child in self.latest.children}
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        notes = []
        for child, seat in children.items():
            known = before.get(child.child_id)
            since = known.since if known is not None and known.state is child.state else now
            notes.append(
                ChildNote(
                    name=child.name, child_id=child.child_id, pid=child.process.pid, state=child.state,
                    since=since, is_helper=seat.helper is not None, is_being_replaced=child.asks_to_be_replaced,
                    progress=child.process.progress, lease=child.process.lease,
                )
            )  # fmt: skip
        self.counted.keep({child.child_id for child in children})
        self.latest = WorkerNote(
            turned_s=time.monotonic(), is_draining=is_draining,
            has_started=self.latest.has_started or is_running, outage=outage, children=tuple(notes),
        )  # fmt: skip

    @property
    def probes(self) -> Probes:
        return Probes(live=self.live, ready=self.ready, started=self.started, metrics=self.metrics)

    def live(self) -> Finding:
        """Whether the supervisor turns, and each child's event loop, unless the child is being replaced. No server counts."""
        note = self.latest
        age_s = time.monotonic() - note.turned_s
        if age_s >= SUPERVISOR_LIMIT_S:
            return self.finding(note, f"the supervisor has not turned for {age_s:.0f} s")
        for child in note.children:
            stall = child.stall(self.blocked_after_s)
            if stall and not child.is_being_replaced:
                return self.finding(note, f"{child.name} {child.child_id} (pid {child.pid}): {stall}")
        return self.finding(note, "")

    def ready(self) -> Finding:
        """Whether a child takes work now, as far as is known: a probe asks no server."""
        note = self.latest
        if note.is_draining:
            return self.finding(note, "draining")
        if note.outage:
            return self.finding(note, f"no answer from the store: {note.outage}")
        problems = []
        for child in note.children:
            if child.is_helper:
                continue
            problem = child.problem(self.blocked_after_s)
            if not problem:
                return self.finding(note, "")
            problems.append(f"child {child.child_id}: {problem}")
        return self.finding(note, f"no child takes work; {'; '.join(problems) or 'there is none'}")

    def started(self) -> Finding:
        """Whether a child has been ready once: it had registered, and took work."""
        note = self.latest
        return self.finding(note, "" if note.has_started else "no child has been ready yet")

    def metrics(self) -> Tally:
        """What the processes have counted, and how they are."""
        tally = self.counted.tally()
        states = [child.state for child in self.latest.children if not child.is_helper]
        for state in ChildState:
            tally.set(CHILDREN, states.count(state), state.value)
        tally.set(READY, self.ready().ok)
        return tally

    def finding(self, note: WorkerNote, why: str) -> Finding:
        return Finding(why, {"children": [child.told(self.blocked_after_s) for child in note.children]})
