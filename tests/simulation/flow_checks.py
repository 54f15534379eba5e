"""Checks of flow control: limits never passed, and nothing refused without reason. Rules S7."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from tests.simulation.evidence import Evidence, Execution
from tests.simulation.forms import Arrival
from tests.simulation.observation import StoredRun
from tests.simulation.workload import FunctionPlan


def concurrency_is_kept(evidence: Evidence) -> Iterator[str]:
    """Rule S7.1. A step counts until it ends, its process dies, or its claim is handed back."""
    groups: defaultdict[tuple[Any, ...], list[Execution]] = defaultdict(list)
    limits: dict[tuple[Any, ...], int] = {}
    for execution in evidence.executions:
        run = evidence.stored.runs.get(execution.run)
        if run is None:
            continue
        for name, limit in limits_of(evidence, run):
            groups[name].append(execution)
            limits[name] = limit
    for name, executions in groups.items():
        yield from too_many_at_once(name, limits[name], executions)


def limits_of(evidence: Evidence, run: StoredRun) -> Iterator[tuple[tuple[Any, ...], int]]:
    for place, (limit, by_key, scope) in enumerate(evidence.functions[run.function].limits.concurrency):
        key = evidence.key_of(run) if by_key else None
        yield ((run.function, place, key) if scope == "fn" else (scope, key)), limit


def too_many_at_once(name: tuple[Any, ...], limit: int, executions: list[Execution]) -> Iterator[str]:
    running: list[Execution] = []
    for execution in sorted(executions, key=lambda each: each.start):
        running = [other for other in running if other.over > execution.start]
        running.append(execution)
        if len(running) > limit:
            steps = ", ".join(f"{each.key} of {each.run} in {each.process}" for each in running)
            yield f"S7.1: at {execution.start} there are {len(running)} under the limit {name} of {limit}: {steps}"


def throttles_are_kept(evidence: Evidence) -> Iterator[str]:
    """Rule S7.3. In any stretch of time no more runs start than GCRA allows."""
    for plan in evidence.plan.functions:
        if plan.limits.throttle is None:
            continue
        limit, period_s, burst, by_key = plan.limits.throttle
        apart_ms = Fraction(period_s * 1_000, limit)
        starts: defaultdict[Any, list[int]] = defaultdict(list)
        for run in evidence.runs_of(plan.name):
            if "started" in run.fields:
                starts[evidence.key_of(run) if by_key else None].append(int(run.fields["started"]))
        for key, times in starts.items():
            times.sort()
            for i, first in enumerate(times):
                for j in range(i + 1, len(times)):
                    if times[j] - first < (j - i - (burst - 1)) * apart_ms - 1:
                        yield f"S7.3: {j - i + 1} runs of {plan.name} with key {key} started within {times[j] - first} ms"


def rate_limits_decide(evidence: Evidence) -> Iterator[str]:
    """Rule S7.4. The same decisions as a GCRA of its own, event by event in the order in which they were routed."""
    for plan in evidence.plan.functions:
        if plan.limits.rate is None:
            continue
        limit, period_s, by_key = plan.limits.rate
        apart_ms = Fraction(period_s * 1_000, limit)
        due: defaultdict[Any, Fraction] = defaultdict(Fraction)
        for arrival, run in decided(evidence, plan):
            key = evidence.key_of(run) if by_key else None
            next_ms = max(due[key], Fraction(arrival.now_ms))
            is_allowed = next_ms - arrival.now_ms <= period_s * 1_000 - apart_ms
            if is_allowed:
                due[key] = next_ms + apart_ms
            if is_allowed is (run.status == "skipped"):
                expected = "one" if is_allowed else "none"
                yield f"S7.4: run {run.id} of {plan.name} with key {key} is {run.status}, expected {expected}"


def decided(evidence: Evidence, plan: FunctionPlan) -> Iterator[tuple[Arrival, StoredRun]]:
    """Each event that the function listens to when it was routed first, and the run that has its name."""
    for arrival in evidence.first_arrivals.values():
        for function, run_id, _ in arrival.functions:
            run = evidence.stored.runs.get(run_id)
            if function == plan.name and run is not None:
                yield arrival, run


def idempotency_decides(evidence: Evidence) -> Iterator[str]:
    """Rule S7.8. The first event of a value gets the run."""
    for plan in evidence.plan.functions:
        if not plan.limits.idempotency:
            continue
        known: set[Any] = set()
        for _, run in decided(evidence, plan):
            key = evidence.key_of(run)
            if (key in known) is not (run.status == "skipped"):
                place = "a later" if key in known else "the first"
                yield f"S7.8: run {run.id} of {plan.name} is {run.status}, though {place} one with key {key}"
            known.add(key)


def debounces_calm_down(evidence: Evidence) -> Iterator[str]:
    """Rule S7.5. Each event goes to one run, which starts late enough, with the last of its events."""
    for plan in evidence.plan.functions:
        if plan.limits.debounce is None:
            continue
        groups: defaultdict[str, list[tuple[Arrival, dict[str, Any]]]] = defaultdict(list)
        for uid, arrival in evidence.first_arrivals.items():
            fields = evidence.stored.events.get(uid, {})
            if fields.get("name") != plan.event:
                continue
            landed = fields.get(f"fn:sim/{plan.name}", "")
            run_id = landed.removeprefix("debounced: run ").partition(" ")[0]
            if run_id not in evidence.stored.runs:
                yield f"S7.5: event {uid} came to {landed!r}, which is no run of {plan.name}"
            else:
                groups[run_id].append((arrival, json.loads(fields["event"])))
        for run_id, members in groups.items():
            yield from debounced_run(evidence, evidence.stored.runs[run_id], plan, members)
        for run in evidence.runs_of(plan.name):
            if run.id not in groups and not evidence.is_by_hand(run):
                yield f"S7.5: run {run.id} of {plan.name} has no event"


def debounced_run(
    evidence: Evidence, run: StoredRun, plan: FunctionPlan, members: list[tuple[Arrival, dict[str, Any]]]
) -> Iterator[str]:
    assert plan.limits.debounce is not None
    period_s, timeout_s, by_key = plan.limits.debounce
    keys = {event["data"]["k"] for _, event in members} if by_key else set()
    if len(keys) > 1:
        yield f"S7.5: run {run.id} of {plan.name} has events of the keys {keys}"
    last = max(members, key=lambda member: (member[1]["ts"], member[1]["uid"]))
    if json.loads(run.fields["event"])["uid"] != last[1]["uid"]:
        yield f"S7.5: run {run.id} of {plan.name} has not the last event, {last[1]['uid']}"
    arrivals = sorted((arrival for arrival, _ in members), key=lambda arrival: arrival.place)
    due_ms = max(arrival.now_ms for arrival in arrivals) + period_s * 1_000
    if timeout_s:
        due_ms = min(due_ms, arrivals[0].now_ms + timeout_s * 1_000)
    if evidence.was_claimed_early(run, due_ms, after=arrivals[-1].place):
        yield f"S7.5: run {run.id} of {plan.name} started before it was due at {due_ms}"


def batches_are_filled(evidence: Evidence) -> Iterator[str]:
    """Rule S7.6. That each event is in one run is checked with all functions."""
    for plan in evidence.plan.functions:
        if plan.limits.batch is None:
            continue
        size, timeout_s, by_key = plan.limits.batch
        for run in evidence.runs_of(plan.name):
            events = [evidence.event_of(run), *map(json.loads, run.batch)]
            keys = {event["data"]["k"] for event in events} if by_key else set()
            if len(events) > size or len(keys) > 1:
                yield f"S7.6: run {run.id} of {plan.name} has {len(events)} events with the keys {keys or 'of all'}"
            arrival = evidence.first_arrivals.get(events[0]["uid"])
            is_delayed = any(
                start for _, run_id, start in (arrival.functions if arrival else ()) if run_id == run.id
            )
            if arrival is None or is_delayed or len(events) == size:
                continue
            due_ms = arrival.now_ms + timeout_s * 1_000
            if evidence.was_claimed_early(run, due_ms, after=arrival.place):
                yield f"S7.6: run {run.id} of {plan.name} started with {len(events)} events before it was due at {due_ms}"


def handlers_get_their_batch(evidence: Evidence) -> Iterator[str]:
    for record in evidence.of("handler"):
        run = evidence.stored.runs.get(record["run"])
        # Of events with a type only those that fit are there, see `typed`.
        if run is None or run.status == "cancelled" or evidence.functions[run.function].on_invalid:
            continue
        uids = [evidence.event_of(run)["uid"], *[json.loads(event)["uid"] for event in run.batch]]
        if record["uids"] != uids:
            yield f"S7.6: at {record.place} the handler of {run.id} got the events {record['uids']}, stored are {uids}"


def singletons_are_alone(evidence: Evidence) -> Iterator[str]:
    """Rule S7.7. From its first claim to its end, a run is the only one of its key."""
    for plan in evidence.plan.functions:
        if not plan.limits.singleton:
            continue
        lives: defaultdict[Any, list[tuple[int, int, str]]] = defaultdict(list)
        for run in evidence.runs_of(plan.name):
            claims = evidence.claims_by_run.get((run.id, ""), [])
            if claims:
                lives[evidence.key_of(run)].append((claims[0].granted, claims[-1].ended, run.id))
        for key, spans in lives.items():
            spans.sort()
            for one, other in zip(spans, spans[1:], strict=False):
                if other[0] < one[1]:
                    yield f"S7.7: runs {one[2]} and {other[2]} of {plan.name} with key {key} were live at once"


FLOW_CHECKS = (
    concurrency_is_kept,
    throttles_are_kept,
    rate_limits_decide,
    idempotency_decides,
    debounces_calm_down,
    batches_are_filled,
    handlers_get_their_batch,
    singletons_are_alone,
)
# These count events, and what a store had counted is gone when it was emptied.
COUNTING_CHECKS = (
    throttles_are_kept,
    rate_limits_decide,
    idempotency_decides,
    debounces_calm_down,
    batches_are_filled,
)
