"""Functions that end their own process, each time: they end as WorkerLost after 3 crashes, and the others go on. Rule S9.8."""

from __future__ import annotations

import orjson
import pytest

from tests.robustness.deployment import Deployment

pytestmark = pytest.mark.chaos

MAX_CRASHES = 3


@pytest.mark.parametrize(
    ("how", "where", "told"),
    [("kill", "in a step", "killed by signal 9 (SIGKILL"), ("exit", "between steps", "exit code 7")],
)
def test_function_that_ends_its_process_fails_as_worker_lost_after_3_crashes(
    deployment: Deployment, how: str, where: str, told: str
) -> None:
    deployment.start_beat()
    worker = deployment.start_worker(processes=2)
    (poisoned,) = deployment.invoke("poison", {"how": how, "where": where})
    (run,) = deployment.wait_until_final([poisoned])
    assert run.status == "failed"
    error = orjson.loads(run.fields["error"])
    assert error["name"] == "WorkerLost"
    assert error["message"].count(told) == MAX_CRASHES, "how the process ended, each time"
    assert len(deployment.journal.lines(what="start", step="first", run_id=poisoned)) == 1
    # The worker serves on, and neither it nor another one tries that run again.
    deployment.start_worker()
    deployment.journal.check(deployment.wait_until_final(deployment.send("five", {"rest_s": 0.0}, count=20)))
    assert len(deployment.journal.lines(what="start", step="boom")) == MAX_CRASHES
    assert worker.stderr.count(" died after ") == MAX_CRASHES


def test_runs_in_the_same_process_as_a_poisoned_one_are_not_blamed_for_it(deployment: Deployment) -> None:
    deployment.start_beat()
    deployment.start_worker()
    healthy = deployment.invoke("five", {"rest_s": 0.5}, count=10)
    deployment.wait_for_starts("one", 10)
    (poisoned,) = deployment.invoke("poison", {"how": "kill", "where": "in a step"})
    (run,) = deployment.wait_until_final([poisoned])
    assert b"WorkerLost" in run.fields["error"]
    deployment.journal.check(deployment.wait_until_final(healthy))
