"""Releases: what a deploy that rolls adds to a workload: functions that one release of the code has, or that a new one changes."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from tests.simulation.workload import FunctionPlan, Op, Plan

OLD, NEW = 1, 2
ROLLING_CHANCE = 0.3
CHANGED_CHANCE = 0.5  # of those
# From second to second of the first minute of the simulation's time, and not again for a year.
CRON = "*/{} 0 0 1 1 *"
CRON_ENDS_MS = 60_000


def with_releases(plan: Plan, seed: int) -> Plan:
    """The plan, in some seeds with two releases of the code. Drawn apart from all else, so that the others stay as they are."""
    random = Random(f"releases {seed}")
    if random.random() >= ROLLING_CHANCE:
        return plan
    event, other = random.sample(plan.names, 2)
    added = [
        function("old", event, (OLD,)),
        function("new", event, (NEW,)),
        replace(function("moved", event, (OLD, NEW)), event_in_new=other),
        ticking("tick", random, (OLD, NEW)),
        ticking("oldtick", random, (OLD,)),
        ticking("newtick", random, (NEW,)),
    ]
    random.shuffle(added)
    functions = [*plan.functions, *added[: random.randint(2, len(added))]]
    later = Random(f"changed tools {seed}")
    if later.random() < CHANGED_CHANCE:
        functions.append(changed(later, event))
    return replace(plan, functions=tuple(functions), is_rolling=True)


def changed(random: Random, event: str) -> FunctionPlan:
    """A function of which one step is made by another tool in the new release. That one never suspends the run.

    So it ends: a run that waited in one release, and goes on in the other, waits no more there.
    """
    old = random.choice(
        [
            Op("sleep", "changed", ms=random.choice([30, 2_000, 6_000])),
            Op("wait", "changed", ms=random.choice([500, 3_000]), target="sim/never"),
            Op("invoke", "changed", target="callee"),
            Op("step", "changed", ms=20, chance=0.6),
        ]
    )
    new = Op("send", "changed", target="sim/never") if old.kind == "step" else Op("step", "changed", ms=20)
    # A sleep beside it wakes the run while it waits.
    nap, after = Op("sleep", "nap", ms=random.choice([30, 300])), Op("step", "step-after", ms=5)
    bodies = [(Op("parallel", "both", branches=((each,), (nap,))), after) for each in (old, new)]
    return FunctionPlan(
        "changed", event, bodies[0], retries=3, releases=(OLD, NEW), body_in_new=bodies[1]
    )  # fmt: skip


def function(name: str, event: str, releases: tuple[int, ...]) -> FunctionPlan:
    return FunctionPlan(name, event, (Op("step", f"step-{name}", ms=5),), releases=releases)


def ticking(name: str, random: Random, releases: tuple[int, ...]) -> FunctionPlan:
    return replace(function(name, "", releases), cron=CRON.format(random.choice([2, 3, 5])))
