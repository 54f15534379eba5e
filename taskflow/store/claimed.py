"""What a claim brings: the runs that a child may execute now, each with its memos, and a fence. Rule S9.4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from taskflow.event import WireEvent
from taskflow.store.hints import Hint, parse_hints
from taskflow.store.keys import SEPARATOR
from taskflow.store.records import event_json, event_uid
from taskflow.types import RunId

FRESH_FIELDS = 5  # of a run as `parse_fresh` reads it
STEP_FIELDS = 4  # of a step as `parse_step` reads it


class Claim(NamedTuple):
    """A child's right to write a run. It ends as soon as the run has a higher fence."""

    run_id: RunId
    child_id: str
    fence: int


@dataclass(slots=True)
class ClaimedRun:
    """All that a process needs to execute a run; it comes in one round trip."""

    claim: Claim
    function_id: str
    event: bytes  # JSON, as on the wire
    attempt: int  # the number of the attempt at the code between the steps, from 0
    started_ms: int
    claimed_ms: int  # when it was claimed this time; `started_ms` is the first time
    created_ms: int
    cause: str
    crashes: int
    cancel: bytes  # the reason of a cancellation as JSON, or empty
    steps: dict[str, bytes]  # step key -> operation (msgpack)
    step_key: str = ""  # the claimed step, if another process offered it (S4.4); empty for the run itself
    further_steps: Sequence[OfferedStep] = ()  # further steps of the run that were claimed with it
    more_events: Sequence[bytes] = ()  # the events of a batch, after the first (S7.6)
    # The parsed event, if the process that routed it executes the run; nobody else has this object.
    wire: WireEvent | None = None

    @property
    def id(self) -> str:
        """What tells it from others in a process: the run may be there too, and other steps of it."""
        run_id, _, fence = self.claim
        return f"{run_id}{SEPARATOR}{fence}" if self.step_key else run_id

    @property
    def step_fences(self) -> dict[str, int]:
        """The fences of the claimed steps, by step key."""
        return {self.step_key: self.claim.fence} | {step.step_key: step.fence for step in self.further_steps}

    @classmethod
    def fresh(
        cls, claim: Claim, function_id: str, event: bytes, *, wire: WireEvent | None, now_ms: int
    ) -> ClaimedRun:
        """A run that was made and claimed in one script, and so has no steps yet."""
        return cls(claim, function_id, event, 0, now_ms, now_ms, now_ms, "event", 0, b"", {}, wire=wire)


class OfferedStep(NamedTuple):
    """A claimed step of a run whose memos the child has."""

    run_id: str
    step_key: str
    fence: int
    packed: bytes  # the operation (msgpack)


class ClaimReply(NamedTuple):
    runs: list[ClaimedRun]
    has_more: bool
    hints: list[Hint]
    # The work message is for others: only runs of functions that this child does not have are left.
    is_for_others: bool = False
    # steps of runs that the child has replayed for others of their steps
    steps: Sequence[OfferedStep] = ()


def parse_claims(reply: Sequence[Any], *, child_id: str, now_ms: int) -> ClaimReply:
    has_more, hints, rows = reply
    runs: list[ClaimedRun] = []
    steps: list[OfferedStep] = []
    # By run: further steps of those whose memos came with another step.
    further: dict[str, list[OfferedStep]] = {}
    for row in rows:
        if len(row) == STEP_FIELDS:
            step = parse_step(row)
            further.get(step.run_id, steps).append(step)
        elif len(row) == FRESH_FIELDS:
            runs.append(parse_fresh(row, child_id, now_ms))
        else:
            run = parse_claimed(row, child_id, now_ms)
            runs.append(run)
            if run.step_key:
                run.further_steps = further[run.claim.run_id] = []
    return ClaimReply(runs, has_more == 1, parse_hints(hints), has_more == 2, steps)


def parse_step(row: Sequence[Any]) -> OfferedStep:
    run_id, step_key, fence, packed = row
    return OfferedStep(run_id.decode(), step_key.decode(), fence, packed)


def parse_fresh(row: Sequence[bytes], child_id: str, now_ms: int) -> ClaimedRun:
    """A run whose first claim this is, and that has no more to it."""
    run_id, function_id, frame, data, created = row
    claim = Claim(RunId(run_id.decode()), child_id, 1)
    text = event_json(event_uid(claim.run_id), frame, data)
    return ClaimedRun(claim, function_id.decode(), text, 0, now_ms, now_ms, int(created), "event", 0, b"", {})


def parse_claimed(row: Sequence[Any], child_id: str, now_ms: int) -> ClaimedRun:
    (
        run_id,
        fence,
        function_id,
        event,
        attempt,
        started,
        created,
        cause,
        crashes,
        cancel,
        steps,
        step_key,
        more,
    ) = row
    return ClaimedRun(
        claim=Claim(RunId(run_id.decode()), child_id, fence),
        function_id=function_id.decode(),
        event=event,
        attempt=attempt,
        started_ms=started,
        claimed_ms=now_ms,
        created_ms=created,
        cause=cause.decode(),
        crashes=crashes,
        cancel=cancel,
        step_key=step_key.decode(),
        more_events=more,
        steps={steps[i].decode(): steps[i + 1] for i in range(0, len(steps), 2)},
    )
