"""S7.1 with real processes: a limit is never passed, and is reached again soon after each kill."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from tests.processes import wait_until
from tests.robustness.app import LIMIT
from tests.robustness.conftest import Measure
from tests.robustness.deployment import CHILD_LOST_S, Deployment
from tests.robustness.journal import Line

pytestmark = pytest.mark.chaos

RUNS = 2_000
KILLS = 6
NS_PER_S = 1_000_000_000


def test_a_limit_holds_while_workers_are_killed(deployment: Deployment, measure: Measure) -> None:
    """2,000 runs on three workers of 50 slots."""
    deployment.start_beat()
    workers = [deployment.start_worker("--concurrency", "50") for _ in range(3)]
    run_ids = deployment.send("limited", {"rest_s": 0.01}, count=RUNS)
    rng = random.Random(7)
    kills: dict[int, int] = {}  # pid -> ns
    for number in range(KILLS):
        wanted = (number + 1) * RUNS // (KILLS + 2)
        wait_for_ends(deployment, wanted)
        victim = rng.choice([child for worker in workers for child in worker.children()])
        kills[victim] = time.monotonic_ns()
        os.kill(victim, signal.SIGKILL)
    runs = deployment.wait_until_final(run_ids, deadline_s=60)
    deployment.journal.check(runs)
    lines = deployment.journal.lines()
    levels = levels_of(lines, kills)
    assert max(level for _, level in levels) == LIMIT
    # On a busy machine a kill may come so late that too few runs are left to reach the limit again.
    early = [
        killed_ns
        for killed_ns in kills.values()
        if sum(line.what == "start" and line.at_ns > killed_ns for line in lines) > 2 * LIMIT
    ]
    assert len(early) > KILLS // 2
    for killed_ns in early:
        full_ns = next(at for at, level in levels if at > killed_ns and level == LIMIT)
        measure("child killed, the limit is reached again", (full_ns - killed_ns) / NS_PER_S)
        assert full_ns - killed_ns <= CHILD_LOST_S * NS_PER_S


def wait_for_ends(deployment: Deployment, wanted: int) -> None:
    wait_until(
        lambda: len(deployment.journal.lines(what="end", step="two")) >= wanted,
        what=f"the end of {wanted} runs",
        deadline_s=60,
    )


def levels_of(lines: list[Line], kills: dict[int, int]) -> list[tuple[int, int]]:
    """How many steps execute from each moment (ns) on; those of a killed process until it was killed."""
    ends = {line.token: line.at_ns for line in lines if line.what == "end"}
    changes: list[tuple[int, int]] = []
    for line in lines:
        if line.what == "start":
            end_ns = ends.get(line.token, kills.get(line.pid))
            assert end_ns is not None, f"process {line.pid} was not killed, but a step of it never ended"
            changes += [(line.at_ns, 1), (end_ns, -1)]
    level, levels = 0, []
    for at_ns, change in sorted(changes):
        level += change
        levels.append((at_ns, level))
    return levels
