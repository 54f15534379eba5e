"""The engine keeps its promises in 200 simulations. `make simulate SEEDS=5000` runs more."""

from __future__ import annotations

import pytest

from taskflow.testing.simulation.server import StoreServer
from taskflow.testing.simulator import simulate

SHARES, SEEDS = 10, 200


@pytest.mark.parametrize("share", range(SHARES))
def test_the_checker_finds_nothing(server: StoreServer, share: int) -> None:
    for seed in range(share, SEEDS, SHARES):
        outcome = simulate(seed, server)
        assert not outcome.problems, str(outcome)
