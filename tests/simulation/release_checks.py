"""Checks of deploys that roll: what living code bases know counts, whoever routes, and ticks are fired once. Rules S2.7, S8.1.

Which code lives is worked out anew from what the store was told: registrations, ends of children, ends of workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.simulation.evidence import Evidence
from tests.simulation.forms import arguments_of, is_answered, is_routed
from tests.simulation.history import Record
from tests.simulation.releases import CRON_ENDS_MS, NEW, OLD
from tests.simulation.world import START_MS


@dataclass
class Fleet:
    """Which child executes which code, by what the store was told so far; and in which order the codes came."""

    running: dict[str, str] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)  # the last children of workers that live
    buried: set[str] = field(default_factory=set)
    counting: list[str] = field(default_factory=list)  # codes, oldest first
    functions: dict[str, frozenset[str]] = field(default_factory=dict)  # by code

    def follow(self, record: Record) -> None:
        if not is_answered(record, "register_app", "hand_back", "forget_worker", "heartbeat"):
            return
        row = arguments_of(record)
        match record["name"]:
            case "heartbeat":
                self.buried -= {child.decode() for child in row["child_ids"]}
            case "register_app" if (child := row["child_id"].decode()) not in self.buried:
                self.register(
                    child, row["code"].decode(), [each["slug"].decode() for each in row["functions"]]
                )
            case "hand_back" if not row["jobs"] and not record["reply"][1]:
                self.end(row["child_id"].decode())
            case "forget_worker" if record["reply"]:
                self.leave(f"{row['worker_id'].decode()}:")
        live = set(self.running.values())
        if live:
            self.counting = [code for code in self.counting if code in live]

    def register(self, child: str, code: str, slugs: list[str]) -> None:
        worker = child.rpartition(":")[0]
        for other in [other for other in self.ended if other.rpartition(":")[0] == worker]:
            self.ended.discard(other)
            self.running.pop(other, None)
        self.running[child] = code
        self.functions[code] = frozenset(slugs)
        if code not in self.counting:
            self.counting.append(code)

    def end(self, child: str) -> None:
        self.buried.add(child)
        if child not in self.running:
            return
        worker = f"{child.rpartition(':')[0]}:"
        if any(other.startswith(worker) for other in self.running if other != child):
            del self.running[child]
            self.ended.discard(child)
        else:
            self.ended.add(child)

    def leave(self, worker: str) -> None:
        for child in [child for child in self.running if child.startswith(worker)]:
            del self.running[child]
            self.ended.discard(child)


def counting_functions_are_planned(evidence: Evidence) -> Iterator[str]:
    """Whoever routes an event plans a run of each function that counts then and listens to it, and of no other."""
    if not evidence.plan.is_rolling:
        return
    fleet = Fleet()
    for record in evidence.of("script"):
        fleet.follow(record)
        if not is_routed(record):
            continue
        for event in arguments_of(record)["events"]:
            name = event["name"].decode()
            planned = {run["function_id"].decode().partition("/")[2] for run in event["runs"]}
            expected = set(listening(evidence, fleet, name))
            if planned != expected:
                what = f"at {record.place} event {event['uid'].decode()} ({name}) started {sorted(planned)}"
                yield f"S2.7: {what}, but of the living code {sorted(expected)} listen"


def listening(evidence: Evidence, fleet: Fleet, name: str) -> Iterator[str]:
    for plan in evidence.plan.functions:
        having = [code for code in fleet.counting if plan.name in fleet.functions[code]]
        if not having:
            continue
        is_new = NEW in plan.releases and release_of(fleet, having[-1]) == NEW
        if (plan.event_in_new if is_new and plan.event_in_new else plan.event) == name:
            yield plan.name


def release_of(fleet: Fleet, code: str) -> int:
    """Each release has a function that tells it from the other."""
    return OLD if "release-1" in fleet.functions[code] else NEW


def ticks_are_fired_once(evidence: Evidence) -> Iterator[str]:
    """Both releases live in the end, and make up for what was missed: no tick is left out from when its function first counted."""
    ticks: Counter[tuple[str, str]] = Counter()
    for run in evidence.stored.runs.values():
        if run.fields["cause"] == "cron":
            ticks[run.function, evidence.event_of(run)["data"]["scheduled_at"][11:19]] += 1
    began = dict(reversed(list(noted_schedules(evidence))))
    for plan in evidence.plan.functions:
        if not plan.cron:
            continue
        every = int(plan.cron.partition(" ")[0].removeprefix("*/"))
        for second in range(0, CRON_ENDS_MS // 1_000, every):
            tick = f"00:00:{second:02}"
            is_due = plan.name in began and START_MS + second * 1_000 > began[plan.name]
            if ticks[plan.name, tick] != is_due:
                fired = ticks[plan.name, tick]
                yield f"S8.1: the tick at {tick} of {plan.name} was fired {fired} times, expected {int(is_due)}"


def noted_schedules(evidence: Evidence) -> Iterator[tuple[str, int]]:
    """Functions with crons, and from when (ms) on their ticks count."""
    for record in evidence.of("script"):
        if is_answered(record, "fire_cron") and record["reply"][0] != b"fenced":
            row = arguments_of(record)
            if not row["runs"]:
                yield row["schedule"].decode().partition("\x1f")[0].partition("/")[2], int(row["tick_ms"])


RELEASE_CHECKS = (counting_functions_are_planned, ticks_are_fired_once)
