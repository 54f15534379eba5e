"""Evidence: a history in the forms that checks ask for: executions, claims, memos, and when events were routed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests.simulation.forms import (
    Arrival,
    Write,
    arrivals_in,
    grants_in,
    handed_back_in,
    starting_time_in,
    writes_in,
)
from tests.simulation.history import Record
from tests.simulation.observation import Stored, StoredRun
from tests.simulation.workload import BODY, BY_HAND, FunctionPlan, Plan

NEVER = 1 << 60
SEPARATOR = "\x1f"


@dataclass(slots=True)
class Execution:
    """A step's function, or the body of a function without steps, called once.

    Places are of the history; `lost` is when the claim that it belonged to was taken away.
    """

    run: str
    key: str
    token: int
    process: str
    start: int
    end: int = NEVER
    lost: int = NEVER
    outcome: str = ""
    claim: Claim | None = None

    @property
    def over(self) -> int:
        """When it was over, or no longer anybody's."""
        return min(self.end, self.lost)


@dataclass(slots=True)
class Claim:
    """A run, or an offered step, in the hands of a child."""

    run: str
    key: str  # of the offered step, or ""
    child: str
    fence: int
    granted: int
    ended: int = NEVER
    how: str = ""  # lost, finished, parked, retried, committed

    @property
    def job(self) -> str:
        return f"{self.run}{SEPARATOR}{self.key}" if self.key else self.run


@dataclass
class Evidence:
    """What the checks look at: the plan, all records, what was stored when all had ended, and what was left of it.

    `kept` are the runs that were there after the shorter of the retentions; None when it never came to that. `left` are the keys
    in the end.
    """

    plan: Plan
    records: Sequence[Record]
    stored: Stored
    kept: set[str] | None = None
    left: dict[str, int] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()  # runs that a store that was emptied had

    @cached_property
    def functions(self) -> dict[str, FunctionPlan]:
        return {function.name: function for function in self.plan.functions}

    def of(self, *kinds: str) -> Iterator[Record]:
        return (record for record in self.records if record.what in kinds)

    # --- runs and events ---

    def event_of(self, run: StoredRun) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(run.fields["event"])
        return event

    def events_of(self, run: StoredRun) -> list[dict[str, Any]]:
        """All events of a batch; otherwise the one event."""
        return [self.event_of(run), *map(json.loads, run.batch)]

    def key_of(self, run: StoredRun) -> Any:
        return self.event_of(run)["data"].get("k")

    def is_by_hand(self, run: StoredRun) -> bool:
        """Whether no event started it, so that flow control that picks among events had no part in it."""
        return bool(self.event_of(run)["name"] == BY_HAND)

    def runs_of(self, function: str) -> list[StoredRun]:
        return [run for run in self.stored.runs.values() if run.function == function]

    @cached_property
    def uids(self) -> dict[int, str]:
        """By the number that its producer gave it, the uid of each event that is stored."""
        found = {}
        for uid, fields in self.stored.events.items():
            number = json.loads(fields["event"])["data"].get("n", 0)
            if number > 0:
                found[number] = uid
        return found

    @cached_property
    def arrivals(self) -> list[Arrival]:
        """Each event, whenever it was routed."""
        return [arrival for record in self.of("script") for arrival in arrivals_in(record)]

    @cached_property
    def first_arrivals(self) -> dict[str, Arrival]:
        found: dict[str, Arrival] = {}
        for arrival in self.arrivals:
            found.setdefault(arrival.uid, arrival)
        return found

    # --- claims ---

    @cached_property
    def claims(self) -> list[Claim]:
        """All claims, in the order in which they were granted, with their ends."""
        return read_claims(self)

    @cached_property
    def writes(self) -> list[Write]:
        found = [write for record in self.of("script") for write in writes_in(record)]
        return [write for write in found if write.run not in self.lost]

    @cached_property
    def claims_by_run(self) -> dict[tuple[str, str], list[Claim]]:
        found: defaultdict[tuple[str, str], list[Claim]] = defaultdict(list)
        for claim in self.claims:
            found[claim.run, claim.key].append(claim)
        return found

    def was_claimed_early(self, run: StoredRun, due_ms: int, *, after: int) -> bool:
        """Whether the run was claimed though since `after` no script that starts what is due was told of a time from `due_ms` on.

        Exact: hosts' clocks may differ, but what is due goes by the time that scripts are told.
        """
        for claim in self.claims_by_run.get((run.id, ""), [])[:1]:
            times = (now_ms for place, now_ms in self.starting_times if after < place <= claim.granted)
            return max(times, default=0) < due_ms
        return False

    @cached_property
    def starting_times(self) -> list[tuple[int, int]]:
        """Place and time (ms) of each script that starts runs that are due."""
        return [time for record in self.of("script") for time in starting_time_in(record)]

    # --- executions ---

    @cached_property
    def executions(self) -> list[Execution]:
        deaths = {record.process: record.place for record in self.of("died")}
        found: dict[int, Execution] = {}
        for record in self.of("step", "step_end"):
            if record.what == "step":
                found[record["token"]] = Execution(
                    record["run"], record["key"], record["token"], record.process, record.place,
                    end=deaths.get(record.process, NEVER),
                )  # fmt: skip
            else:
                execution = found[record["token"]]
                execution.end, execution.outcome = min(record.place, execution.end), record["outcome"]
        for execution in found.values():
            claim = execution.claim = self.claim_of(execution)
            if claim is not None and claim.how == "lost":
                execution.lost = claim.ended
        return list(found.values())

    def claim_of(self, execution: Execution) -> Claim | None:
        """The claim under which it began, of the step or of the run; the last one that its process had, if it holds neither."""
        granted = [
            claim
            for key in (execution.key, "")
            for claim in self.claims_by_run.get((execution.run, key), [])
            if claim.child == execution.process and claim.granted < execution.start
        ]
        held = [claim for claim in granted if claim.ended > execution.start]
        return held[0] if held else max(granted, key=lambda claim: claim.granted, default=None)

    @cached_property
    def committed(self) -> dict[tuple[str, str], int]:
        """When the outcome of each step, and of each body, was stored first."""
        found: dict[tuple[str, str], int] = {}
        for write in self.writes:
            for key, memo in write.memos:
                if memo.get("state") in ("done", "failed"):
                    found.setdefault((write.run, key), write.place)
            if write.ends_claim == "finished":
                found.setdefault((write.run, BODY), write.place)
        return found


def read_claims(evidence: Evidence) -> list[Claim]:
    claims: list[Claim] = []
    active: dict[tuple[str, str], Claim] = {}

    def end(claim: Claim, place: int, how: str) -> None:
        claim.ended, claim.how = place, how
        del active[claim.run, claim.key]

    for record in evidence.of("script"):
        for grant in grants_in(record):
            known = active.get((grant.run, grant.key))
            if grant.run in evidence.lost:
                continue
            if known is None or (known.child, known.fence) != (grant.child, grant.fence):
                claim = Claim(grant.run, grant.key, grant.child, grant.fence, record.place)
                active[grant.run, grant.key] = claim
                claims.append(claim)
        given = handed_back_in(record)
        if given is not None:
            child, jobs = given
            for claim in list(active.values()):
                if claim.child == child and (not jobs or claim.job in jobs):
                    end(claim, record.place, "lost")
        for write in writes_in(record):
            current = active.get((write.run, write.key))
            if write.ends_claim and current and (current.child, current.fence) == (write.child, write.fence):
                end(current, record.place, write.ends_claim)
    return claims
