"""Typed events: what an EventModel adds to a workload, with two versions of its data, and events that fit neither. Rule S11.2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any, Literal

from taskflow import EventModel, upgrade_from
from tests.simulation.evidence import Evidence
from tests.simulation.workload import FunctionPlan, Limits, Op, Plan, Sending

NAME = "sim/typed"
SHARE = 0.15  # of the seeds
FIRST_NUMBER = 100_000  # of its events, which the others do not reach


class Numbered(EventModel, name=NAME, v="2"):
    """The data of every event of the simulation, with a mark that those lack which are not to fit."""

    n: int
    k: Any
    p: int
    fits: Literal[True]
    h: dict[str, str] = {}

    @upgrade_from("1")
    @classmethod
    def from_v1(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "fits": data["is_good"]}

    def get(self, field: str, default: Any = None) -> Any:
        """As of a dict: the workload's handlers read both."""
        return getattr(self, field, default)


def with_typed_events(plan: Plan, seed: int) -> Plan:
    """The plan, in some seeds with a function of typed events. Drawn apart from all else, so that the others stay as they are."""
    random = Random(f"typed {seed}")
    if random.random() >= SHARE:
        return plan
    function = FunctionPlan(
        "typed", NAME, (Op("step", "step-typed", ms=random.choice([0, 5, 300])), Op("sleep", "sleep-typed", ms=200)),
        random.choice([Limits(), Limits(concurrency=((1, True, "fn"),)), Limits(batch=(3, 1, False))]),
        on_invalid=random.choice(["skip", "dead_letter"]),
    )  # fmt: skip
    events = [draw_event(random, FIRST_NUMBER + number) for number in range(random.randint(2, 9))]
    sendings = [Sending(random.randrange(plan.length_ms), (event,)) for event in events]
    ordered = sorted((*plan.sendings, *sendings), key=lambda sending: sending.at_ms)
    return replace(plan, functions=(*plan.functions, function), sendings=tuple(ordered))


def draw_event(random: Random, number: int) -> dict[str, Any]:
    data: dict[str, Any] = {"n": number, "k": random.choice(range(3)), "p": 0}
    v, mark = random.choice([("1", "is_good"), ("2", "fits"), (None, "fits")])
    return {"name": NAME, "data": {**data, mark: random.random() < 0.6}, "v": v}


def fits(event: dict[str, Any]) -> bool:
    return bool(event["data"].get("fits") or event["data"].get("is_good"))


# --- checks ---


def events_that_fit_are_taken(evidence: Evidence) -> Iterator[str]:
    """A run takes the events that fit, of either version, and ends as skipped if it has none; nothing else skips these runs."""
    for plan in evidence.plan.functions:
        if not plan.on_invalid:
            continue
        given = {run.id: evidence.events_of(run) for run in evidence.runs_of(plan.name)}
        for run in evidence.runs_of(plan.name):
            takes = [event for event in given[run.id] if fits(event)]
            if run.status == "skipped" and takes:
                yield f"S11.2: run {run.id} was skipped, but event {takes[0]['uid']} fits"
            if run.status in ("completed", "failed") and not takes:
                yield f"S11.2: run {run.id} is {run.status}, but its event does not fit"
        for record in evidence.of("handler"):
            if record["run"] not in given:
                continue
            expected = [event["uid"] for event in given[record["run"]] if fits(event)]
            if record["uids"] != expected:
                yield f"S11.2: at {record.place} {record['run']} got {record['uids']}, expected {expected}"


def refused_events_are_kept_once(evidence: Evidence) -> Iterator[str]:
    """With "dead_letter", each event that a run has refused is a dead letter, and once; without, none is."""
    letters = Counter(evidence.stored.dead_letters)
    for plan in evidence.plan.functions:
        if not plan.on_invalid:
            continue
        for run in evidence.runs_of(plan.name):
            for event in evidence.events_of(run):
                is_refused = run.status in ("completed", "skipped") and not fits(event)
                kept, least = letters[event["uid"]], int(is_refused and plan.on_invalid == "dead_letter")
                if not least <= kept <= (plan.on_invalid == "dead_letter"):
                    yield f"S11.2: event {event['uid']} of run {run.id} ({run.status}) is in {kept} dead letters, expected {least}"


TYPED_CHECKS = (events_that_fit_are_taken, refused_events_are_kept_once)
