"""The checker finds each bug that is put into the engine. `make simulate-mutations` looks for them from the first seed on."""

from __future__ import annotations

import os

import pytest

from tests.simulation.mutations import MUTATIONS, SELDOM, Mutation
from tests.simulation.server import StoreServer
from tests.simulation.simulator import Outcome, simulate

MAX_SEEDS = 500
FROM_THE_FIRST = bool(os.environ.get("TASKFLOW_MUTATIONS_FROM_THE_FIRST"))


def find(mutation: Mutation, server: StoreServer, *, first: int) -> Outcome | None:
    """The first simulation in which the checker complains as expected."""
    with mutation.bug():
        for seed in range(first, first + MAX_SEEDS):
            outcome = simulate(seed, server)
            if any(problem.startswith(mutation.rule) for problem in outcome.problems):
                return outcome
    return None


def test_bugs_that_are_seldom_seen_are_bugs() -> None:
    assert set(SELDOM) <= {each.name for each in MUTATIONS}


def test_each_bug_can_be_put_in() -> None:
    """What they change is still there."""
    for mutation in MUTATIONS:
        with mutation.bug():
            pass


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "mutation", [each for each in MUTATIONS if FROM_THE_FIRST or each.name not in SELDOM], ids=str
)
def test_the_simulator_finds_the_bug(server: StoreServer, mutation: Mutation) -> None:
    found = find(mutation, server, first=0 if FROM_THE_FIRST else mutation.seed)
    assert found is not None, f"{MAX_SEEDS} simulations, and the checker has not noticed"
    sound = simulate(found.seed, server)
    assert not sound.problems, f"seed {found.seed} fails without the bug as well:\n{sound}"
    if FROM_THE_FIRST:
        complaint = next(problem for problem in found.problems if problem.startswith(mutation.rule))
        os.write(2, f"\n{mutation}: seed {found.seed}, {complaint:.160}\n".encode())
