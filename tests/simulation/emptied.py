"""A store that comes back empty: what the checks look at then. Rule S9.5.

Runs and events that the store had go with it, and whoever executes them finds nothing to write to: nothing is promised about
them. All that comes later is checked as ever, but for flow control that counts events: an event that was routed before and is
routed again counts in the store, and not in the history.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from tests.simulation.history import Record
from tests.simulation.observation import Stored
from tests.simulation.workload import Plan

SHARE = 0.06  # of the seeds without a rolling deploy

# Of processes, and not of runs: these count also from before.
LASTING = ("serves", "died", "drained", "paused")


@dataclass(frozen=True, slots=True)
class Survivors:
    """What the store has got since it was empty; `lost` are the runs that it had before."""

    records: Sequence[Record]
    stored: Stored
    lost: frozenset[str]


def survivors(records: Sequence[Record], stored: Stored) -> Survivors:
    """All of it, unless the store was emptied."""
    emptied = next((record for record in records if record.what == "emptied"), None)
    if emptied is None:
        return Survivors(records, stored, frozenset())
    lost, place = frozenset(emptied["runs"]), emptied.place
    kept = [
        record
        for record in records
        if record.what != "accepted"
        and (record.place > place or record.what in LASTING)
        and record.about.get("run") not in lost
    ]
    gone = events_of(stored, lost) | set(emptied["events"])
    # The broker lost nothing: an event that was accepted, and not routed yet, is routed later.
    known = stored.events | emptied["events"]
    routed = set(numbers_of({uid: known[uid] for uid in gone if uid in known}))
    for record in records:
        if record.what == "accepted":
            numbers = [number for number in record["numbers"] if number not in routed]
            kept.append(replace(record, about={"numbers": numbers}))
    runs = {run_id: run for run_id, run in stored.runs.items() if run_id not in lost}
    events = {uid: fields for uid, fields in stored.events.items() if uid not in gone}
    return Survivors(kept, replace(stored, runs=runs, events=events), lost)


def events_of(stored: Stored, run_ids: Collection[str]) -> set[str]:
    """The later events of batches that began before the store was empty, and again after it: their first event came twice."""
    return {
        json.loads(event)["uid"]
        for run_id, run in stored.runs.items()
        if run_id in run_ids
        for event in run.batch
    }


def numbers_of(events: Mapping[str, Mapping[str, str]]) -> Iterator[int]:
    """The numbers that their producers gave to events."""
    for fields in events.values():
        yield json.loads(fields["event"])["data"].get("n", 0)


def with_empty_store(plan: Plan, seed: int) -> Plan:
    """The plan, in which the store of some seeds loses its data once."""
    return replace(plan, empties=not plan.is_rolling and Random(f"emptied {seed}").random() < SHARE)
