"""Checks of a middleware's hooks: no path misses one, and what begins ends. Rule S11.4."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.simulation.evidence import NEVER, Evidence
from tests.simulation.history import Record
from tests.simulation.observation import FINAL
from tests.simulation.workload import BODY

Place = tuple[str, str, str, str]  # process, hook, run, step key


def user_code_is_wrapped(evidence: Evidence) -> Iterator[str]:
    """Wherever a handler or a step's function is called, the methods around it have begun, in the same process."""
    if evidence.plan.empties or not any(evidence.of("hook")):
        return
    inside: Counter[Place] = Counter()
    begun: set[str] = set()
    for record in evidence.of("hook", "handler", "step"):
        process, run = record.process, record["run"]
        if record.what == "handler":
            needed = [(process, "wrap_run", run, ""), (process, "wrap_attempt", run, "")]
        elif record.what == "step":
            key = "" if record["key"] == BODY else record["key"]
            needed = [(process, "wrap_attempt", run, key)]
            if key:
                needed.append((process, "on_step_start", run, key))
        else:
            note(record, inside, begun)
            continue
        for place in needed:
            if not inside[place]:
                missing = f"{place[1]} of {place[3] or 'the handler'}"
                yield f"S11.4: {record.what} of {run} at {record.place} in {process} without {missing}"
        if record.what == "handler" and run not in begun and not offered(record, inside):
            yield f"S11.4: the handler of {run} was called at {record.place}, but on_run_start never was"


def note(record: Record, inside: Counter[Place], begun: set[str]) -> None:
    hook, run = record["hook"], record["run"]
    if hook == "on_run_start":
        begun.add(run)
    elif hook == "on_step_start":
        inside[record.process, hook, run, record["key"]] += 1
    elif hook == "on_step_end":
        inside[record.process, "on_step_start", run, record["key"]] -= 1
    elif hook.startswith("wrap_"):
        change = 1 if record["status"] == "begins" else -1
        inside[record.process, hook, run, record["key"]] += change
        if record["offered"]:
            inside[record.process, "offered", run, ""] += change


def offered(record: Record, inside: Counter[Place]) -> bool:
    """Whether the handler is called for the sake of an offered step, in this process."""
    return inside[record.process, "offered", record["run"], ""] > 0


def hooks_pair_up(evidence: Evidence) -> Iterator[str]:
    """What has begun in a process that lived until all runs had ended has ended there; nothing ends twice."""
    if evidence.plan.empties:
        return
    closing = next((record.place for record in evidence.of("closing")), NEVER)
    gone = {record.process for record in evidence.of("died", "drained") if record.place < closing}
    wraps: dict[int, Record] = {}
    steps: Counter[Place] = Counter()
    for record in evidence.of("hook"):
        hook = record["hook"]
        if hook.startswith("wrap_") and record["status"] == "begins":
            wraps[record["number"]] = record
        elif hook.startswith("wrap_") and wraps.pop(record["number"], None) is None:
            yield f"S11.4: {hook} of {record['run']} ended at {record.place} without having begun"
        elif hook.startswith("on_step_"):
            steps[record.process, "", record["run"], record["key"]] += 1 if hook == "on_step_start" else -1
    for record in wraps.values():
        if record.process not in gone:
            yield f"S11.4: {record['hook']} of {record['run']} began at {record.place} in {record.process}, and never ended"
    for (process, _, run, key), open_steps in steps.items():
        if open_steps < 0 or (open_steps and process not in gone):
            yield f"S11.4: step {key} of {run} has {open_steps} more starts than ends in {process}"


def ends_are_those_of_the_store(evidence: Evidence) -> Iterator[str]:
    for record in evidence.of("hook"):
        if record["hook"] != "on_run_end":
            continue
        run = evidence.stored.runs.get(record["run"])
        if run is not None and run.status in FINAL and run.status != record["status"]:
            yield f"S11.4: on_run_end said that {run.id} is {record['status']}, but it is {run.status}"


MIDDLEWARE_CHECKS = (user_code_is_wrapped, hooks_pair_up, ends_are_those_of_the_store)
