"""The engine keeps its promises in 200 simulations. `make simulate SEEDS=5000` runs more."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import pytest

from benchmarks.peers.peer import tree
from tests.processes import REPOSITORY, clean_environment, is_alive, wait_until
from tests.simulation.server import StoreServer
from tests.simulation.simulator import simulate

SHARES, SEEDS = 10, 200


@pytest.mark.parametrize("share", range(SHARES))
def test_the_checker_finds_nothing(server: StoreServer, share: int) -> None:
    for seed in range(share, SEEDS, SHARES):
        outcome = simulate(seed, server)
        assert not outcome.problems, str(outcome)


def test_a_simulator_that_is_killed_takes_its_processes_along() -> None:
    command = [sys.executable, "-m", "tests.simulation.simulator", "--seeds", "1000", "--jobs", "1"]
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(  # the server that is killed leaves its folder
        command, cwd=REPOSITORY, env=clean_environment({"TMPDIR": folder}), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as one:  # fmt: skip
        try:
            wait_until(lambda: is_simulating(one.pid), what="a process that simulates")
            pids = tree(one.pid)
        finally:
            one.kill()
        wait_until(lambda: not any(map(is_alive, pids)), what="the end of all of them")


def is_simulating(pid: int) -> bool:
    """Whether one of its processes has a server."""
    return len(pids := tree(pid)) > 2 and any(len(tree(each)) > 1 for each in pids[1:])
