"""A seed gives the same history each time, whatever ran before."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.simulation.server import StoreServer
from tests.simulation.simulator import simulate

SEED = 9  # with deaths, pauses, lost connections, and messages that come twice


def test_a_seed_replays_exactly(server: StoreServer) -> None:
    first = simulate(SEED, server).history
    simulate(SEED + 1, server)
    assert simulate(SEED, server).history == first


def test_a_seed_replays_exactly_in_another_process_on_another_server(server: StoreServer) -> None:
    """Strings have other hashes there."""
    command = [sys.executable, "-m", "tests.simulation.simulator", "--seed", str(SEED), "--history"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.rstrip("\n") == str(simulate(SEED, server))


def test_another_seed_is_another_history(server: StoreServer) -> None:
    assert simulate(1, server).history != simulate(2, server).history
