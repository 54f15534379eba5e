"""Checks of order: the oldest run first, and waits that get the events they wait for. Rules S3.3, S7.2."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from tests.simulation.evidence import NEVER, Evidence
from tests.simulation.forms import arguments_of, invoked_in, is_answered
from tests.simulation.observation import StoredRun
from tests.simulation.run_checks import has_changed
from tests.simulation.workload import FunctionPlan

SLACK_MS = 1_500  # of clocks and of what is under way


def oldest_run_goes_first(evidence: Evidence) -> Iterator[str]:
    """Rule S7.2: of two runs of a function that both wait, under the same limits, the one with the lower score is claimed first."""
    made = made_at(evidence)
    for plan in evidence.plan.functions:
        limits = plan.limits
        if limits.debounce or limits.batch or limits.singleton:
            continue  # these are made before they may run
        lanes: defaultdict[Any, list[tuple[int, int, int, str]]] = defaultdict(list)
        for run in evidence.runs_of(plan.name):
            claims = evidence.claims_by_run.get((run.id, ""))
            if run.id in made and claims:
                score = int(run.fields["created"]) - ahead_ms(evidence, run, plan)
                lanes[lane_of(evidence, run, plan)].append((score, made[run.id], claims[0].granted, run.id))
        for runs in lanes.values():
            yield from overtaken(plan.name, runs)


def overtaken(name: str, runs: list[tuple[int, int, int, str]]) -> Iterator[str]:
    for score, made, claimed, run_id in runs:
        for other_score, _, other_claimed, other_id in runs:
            if score < other_score and made < other_claimed < claimed:
                yield f"S7.2: run {other_id} of {name} was claimed at {other_claimed}; {run_id} goes first, and was made at {made}"


def made_at(evidence: Evidence) -> dict[str, int]:
    """When each run became ready for the first time, for those that were so from the start."""
    made: dict[str, int] = {}
    for arrival in evidence.arrivals:
        for _, run_id, start_at in arrival.functions:
            if not start_at:
                made.setdefault(run_id, arrival.place)
    for record in evidence.of("script"):
        for run_id in invoked_in(record):
            made.setdefault(run_id, record.place)
    delayed = {
        run_id for arrival in evidence.arrivals for _, run_id, start_at in arrival.functions if start_at
    }
    return {run_id: place for run_id, place in made.items() if run_id not in delayed}


def ahead_ms(evidence: Evidence, run: StoredRun, plan: FunctionPlan) -> int:
    if not plan.limits.has_priority:
        return 0
    seconds: int = evidence.event_of(run)["data"].get("p", 0)
    return max(-600, min(600, seconds)) * 1_000


def lane_of(evidence: Evidence, run: StoredRun, plan: FunctionPlan) -> tuple[Any, ...]:
    key = evidence.key_of(run)
    by_key = [each[1] for each in plan.limits.concurrency]
    if plan.limits.throttle is not None:
        by_key.append(plan.limits.throttle[3])
    return tuple(key if each else None for each in by_key)


def waits_get_their_events(evidence: Evidence) -> Iterator[str]:
    """Rule S3.3: the event of a wait fits and came after it; a wait that timed out has missed none that was routed in time."""
    acked = acked_at(evidence)
    for run in evidence.stored.runs.values():
        for key, memo in run.steps.items():
            if memo.get("kind") != "event" or memo.get("state") != "done":
                continue
            event = json.loads(memo["data"])
            k = evidence.key_of(run)
            if event is not None:
                yield from met(evidence, run, key, memo, event, k)
            elif memo.get("seq") is not None:
                yield from missed(evidence, run, key, memo, k, acked)


def met(
    evidence: Evidence, run: StoredRun, key: str, memo: dict[str, Any], event: dict[str, Any], k: Any
) -> Iterator[str]:
    if event["data"].get("k") != k or event["name"] not in memo.get("events", []):
        yield f"S3.3: wait {key} of {run.id} (k={k}) got the event {event['uid']} with {event['data']}"
    seq = evidence.stored.events.get(event["uid"], {}).get("seq")
    if memo.get("seq") is not None and seq is not None and int(seq) <= memo["seq"]:
        yield f"S3.3: wait {key} of {run.id} got the event {event['uid']}, which came before it"


def missed(
    evidence: Evidence, run: StoredRun, key: str, memo: dict[str, Any], k: Any, acked: dict[str, int]
) -> Iterator[str]:
    for uid, fields in evidence.stored.events.items():
        if fields["name"] not in memo.get("events", []) or int(fields.get("seq", 0)) <= memo["seq"]:
            continue
        event = json.loads(fields["event"])
        in_time = acked.get(uid, NEVER) // 1_000 < int(memo.get("ended") or 0) - SLACK_MS
        if event["data"].get("k") == k and "duplicate_of" not in fields and in_time:
            yield f"S3.3: wait {key} of {run.id} timed out at {memo.get('ended')}, but the event {uid} was there"


def acked_at(evidence: Evidence) -> dict[str, int]:
    """When (us) each event's message was acknowledged first."""
    found: dict[str, int] = {}
    for record in evidence.of("acked"):
        for event in json.loads(record["body"]):
            found.setdefault(event["uid"], record.at_us)
    return found


def outcomes_keep_their_order(evidence: Evidence) -> Iterator[str]:
    """Rule S4.5: the call of a handler that completed its run saw the outcomes in the order that is stored.

    So did the calls before, as far as what they did was stored. What came after the last commit has no stored place,
    nor has what a call gave up before it heard of the outcome that the store had, and has kept (S4.1).
    """
    given_up = {(record["run"], key) for record in evidence.of("gave_up") for key in record["keys"]}
    last = {record["run"]: record for record in evidence.of("returned")}
    seen: defaultdict[int, list[str]] = defaultdict(list)
    for record in evidence.of("saw", "waited", "invoked", "slept"):
        seen[record["call"]].append(record["key"])
    forgotten = forgotten_at(evidence)
    for run in evidence.stored.runs.values():
        if run.status != "completed" or run.id not in last:
            continue
        latest: tuple[int, str] = (-1, "")
        anew: list[tuple[int, str]] = []
        for key in seen[last[run.id]["call"]]:
            order = run.steps.get(key, {}).get("order")
            if order is None and (run.id, key) in given_up:
                continue
            if order is None:
                order = NEVER  # from here on, nothing is stored
            stored = evidence.committed.get((run.id, key), NEVER)
            for before, other in (latest, *anew):
                # A memo stays when a step before it is made anew by another tool, whose outcome is the newer one.
                if order < before and stored > forgotten.get((run.id, other), -1):
                    yield f"S4.5: run {run.id} saw the outcome of {key} after that of {other}, stored as number {order}"
            if (run.id, key) in forgotten:
                anew.append((order, key))
            else:
                latest = max(latest, (order, key))


def forgotten_at(evidence: Evidence) -> dict[tuple[str, str], int]:
    """Where a run last forgot the memo of another tool, by run and key."""
    found: dict[tuple[str, str], int] = {}
    for record in evidence.of("script"):
        if is_answered(record, "forget_operation") and record["reply"][0] == b"ok":
            row = arguments_of(record)
            run, key = row["run_id"].decode(), row["step_key"].decode()
            if has_changed(evidence, run, key):
                found[run, key] = record.place
    return found


ORDER_CHECKS = (oldest_run_goes_first, waits_get_their_events, outcomes_keep_their_order)
