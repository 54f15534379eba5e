"""Limits, counted without the engine: how many steps executed at one time, how far apart runs started. Rules S7.1, S7.3.

A process that is paused or cut off for long loses its claims, and the step in its hands goes on all the same when it wakes:
nobody can stop it, and its commit is refused. So of the executions that were not committed only those count that end by a kill
of their process before anything else happened to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import orjson

from chaos.evidence import Evidence, Execution, event_of, function_of
from chaos.functions import LIMIT, STARTS_PER_S, TENANT_LIMIT
from chaos.strikes import Blow
from tests.robustness.journal import StoredRun

INTERVAL_MS = 1000 // STARTS_PER_S
ROUNDING_MS = 1  # the store counts in us, and keeps whole ms


def check_concurrency(evidence: Evidence) -> Iterator[str]:
    tenants = {
        run.run_id: event_of(run)["data"]["tenant"] for run in evidence.runs if function_of(run) == "limited"
    }
    committed = {token for run in evidence.runs if run.run_id in tenants for token in committed_tokens(run)}
    spans: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for execution in evidence.executions:
        if execution.run_id not in tenants:
            continue
        span = span_of(execution, committed, evidence.blows)
        if span is not None:
            spans["all tenants"].append(span)
            spans[tenants[execution.run_id]].append(span)
    for key, of_key in spans.items():
        limit = LIMIT if key == "all tenants" else TENANT_LIMIT
        level, at_ns = highest_level(of_key)
        if level > limit:
            yield f"concurrency of {key}: {level} steps at one time ({at_ns} ns), and the limit is {limit}"


def committed_tokens(run: StoredRun) -> Iterator[str]:
    for memo in run.steps.values():
        if memo.kind == "step" and memo.data is not None:
            yield orjson.loads(memo.data)
        yield from (str(attempt[4]) for attempt in memo.attempts)


def span_of(execution: Execution, committed: set[str], blows: Sequence[Blow]) -> tuple[int, int] | None:
    """From when to when (ns) the execution held a place under the limit for sure."""
    if execution.token in committed and execution.end_ns is not None:
        return execution.start_ns, execution.end_ns
    kills = [
        blow.from_ns
        for blow in blows
        if blow.action == "kill" and execution.pid in blow.pids and blow.from_ns > execution.start_ns
    ]
    if execution.end_ns is not None or not kills:
        return None
    killed_ns = min(kills)
    if any(is_doubtful(blow, execution) and overlaps(blow, execution.start_ns, killed_ns) for blow in blows):
        return None
    return execution.start_ns, killed_ns


def is_doubtful(blow: Blow, execution: Execution) -> bool:
    """Whether the blow may have cost the process its claims while it lived. A child's death costs others nothing."""
    return not (blow.action == "kill" and (blow.target in ("child", "beat") or execution.pid in blow.pids))


def overlaps(blow: Blow, from_ns: int, until_ns: int) -> bool:
    return blow.from_ns < until_ns and (blow.until_ns or until_ns) > from_ns


def highest_level(spans: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The most that overlap, and when (ns) that was first so."""
    changes = sorted(change for start, end in spans for change in ((start, 1), (end, -1)))
    level = highest = highest_ns = 0
    for at_ns, change in changes:
        level += change
        if level > highest:
            highest, highest_ns = level, at_ns
    return highest, highest_ns


def check_throttle(evidence: Evidence) -> Iterator[str]:
    """Without a burst, runs start an interval apart."""
    starts = sorted(
        (int(run.fields["started"]), run.run_id)
        for run in evidence.runs
        if function_of(run) == "paced" and "started" in run.fields
    )
    for (first_ms, first), (second_ms, second) in pairwise(starts):
        if second_ms - first_ms < INTERVAL_MS - ROUNDING_MS:
            yield f"throttle: runs {first} and {second} started {second_ms - first_ms} ms apart, not {INTERVAL_MS}"
