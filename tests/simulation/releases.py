"""Releases: what a deploy that rolls adds to a workload: functions that one release of the code has, or that a new one changes."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from tests.simulation.workload import FunctionPlan, Op, Plan

OLD, NEW = 1, 2
ROLLING_CHANCE = 0.3
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
    return replace(
        plan, functions=(*plan.functions, *added[: random.randint(2, len(added))]), is_rolling=True
    )


def function(name: str, event: str, releases: tuple[int, ...]) -> FunctionPlan:
    return FunctionPlan(name, event, (Op("step", f"step-{name}", ms=5),), releases=releases)


def ticking(name: str, random: Random, releases: tuple[int, ...]) -> FunctionPlan:
    return replace(function(name, "", releases), cron=CRON.format(random.choice([2, 3, 5])))
