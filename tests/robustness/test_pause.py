"""Workers that are paused or cut off for longer than their heartbeat: their runs go on elsewhere, what they commit late is
refused, and nothing is executed again after its commit. Rules S9.3, S9.4.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from taskflow.store.liveness import LivenessStore
from tests.processes import TaskflowProcess, wait_until
from tests.proxy import Proxy
from tests.robustness.conftest import Measure
from tests.robustness.deployment import HOST_LOST_S, Deployment

pytestmark = pytest.mark.chaos

SHORT_S = 0.02


def test_paused_worker_commits_nothing_when_it_wakes_up(deployment: Deployment, measure: Measure) -> None:
    deployment.start_beat()
    worker = deployment.start_worker()
    start_runs(deployment, steps=50)
    with paused([worker.pid, *worker.children()]) as resume:
        check_takeover(deployment, worker, deployment.start_worker(), resume, measure, what="worker paused")


def test_children_of_a_paused_supervisor_commit_nothing_that_another_has_taken(
    deployment: Deployment, measure: Measure
) -> None:
    deployment.start_beat()
    worker = deployment.start_worker()
    start_runs(
        deployment, steps=600
    )  # in the middle of it when their lease ends, and when it goes on elsewhere
    with paused([worker.pid]) as resume:
        check_takeover(
            deployment, worker, deployment.start_worker(), resume, measure, what="supervisor paused"
        )


def test_worker_that_is_cut_off_from_the_store_keeps_nothing_and_commits_nothing(
    deployment: Deployment, valkey_url: str, measure: Measure
) -> None:
    port = int(valkey_url.rpartition(":")[2].partition("/")[0])
    with Proxy(port) as proxy:
        deployment.start_beat()
        worker = deployment.start_worker(env={"TASKFLOW_STORE": proxy.url_of(valkey_url)})
        start_runs(deployment, steps=50)
        proxy.stall()
        stalled_s = time.monotonic()
        run_ids = deployment.send("five", {"rest_s": 0.0}, count=5)  # for now only this worker can get them
        other = deployment.start_worker()
        deployment.journal.check(deployment.wait_until_final(run_ids, deadline_s=HOST_LOST_S))
        measure("worker cut off, the events that it had received are routed", time.monotonic() - stalled_s)
        check_takeover(deployment, worker, other, proxy.resume, measure, what="worker cut off")


def test_heartbeat_that_comes_late_does_not_hide_that_the_worker_was_declared_dead(
    deployment: Deployment, valkey_url: str
) -> None:
    supervisor = LivenessStore(valkey_url, namespace=deployment.namespace)
    network = LivenessStore(valkey_url, namespace=deployment.namespace)
    now_ms = time.time_ns() // 1_000_000
    supervisor.heartbeat("worker", ["worker:1"], now_ms=now_ms)
    assert supervisor.heartbeat("worker", ["worker:1"], now_ms=now_ms + 3_000) is True
    network.leave("worker")  # as beat does when it has handed back
    network.heartbeat(
        "worker", ["worker:1"], now_ms=now_ms + 6_000
    )  # sent by the supervisor then, held up since
    assert supervisor.heartbeat("worker", ["worker:1"], now_ms=now_ms + 20_000) is False
    assert supervisor.heartbeat("worker", ["worker:1"], now_ms=now_ms + 23_000) is True
    supervisor.close()
    network.close()


@contextmanager
def paused(pids: Sequence[int]) -> Iterator[Callable[[], None]]:
    """SIGSTOP them; gives what lets them go on, as a laptop that wakes up."""

    def resume() -> None:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield resume
    finally:
        resume()


def start_runs(deployment: Deployment, *, steps: int) -> None:
    """A run in the middle of a step that lasts until the gate opens, and one that goes from step to step."""
    deployment.invoke("held")
    deployment.invoke("march", {"steps": steps, "rest_s": SHORT_S})
    deployment.wait_for_starts("gate", 1)
    deployment.wait_for_starts("step-3", 1)


def check_takeover(
    deployment: Deployment,
    worker: TaskflowProcess,
    other: TaskflowProcess,
    resume: Callable[[], None],
    measure: Measure,
    *,
    what: str,
) -> None:
    """The other worker takes the runs of the lost one, which then comes back, too late, and works on."""
    journal = deployment.journal
    (late_pid,), (new_pid,) = worker.children(), other.children()
    assert deployment.wait_for_starts("gate", 2, deadline_s=HOST_LOST_S) == [late_pid, new_pid]
    first, second = journal.lines(what="start", step="gate")
    measure(f"{what}, its run goes on elsewhere", (second.at_ns - first.at_ns) / 1e9)
    deployment.open_gate()
    (held,) = deployment.wait_until_final([run.run_id for run in deployment.all_runs("held")])
    resume()
    worker.wait_for_line("had been declared dead")
    # Its own execution of the step comes to its end, and the commit is refused.
    wait_until(
        lambda: late_pid in {line.pid for line in journal.lines(what="end", step="gate")},
        what="the end of the step in the late worker",
    )
    journal.check([held, *deployment.wait_until_final([run.run_id for run in deployment.all_runs("march")])])
    assert late_pid not in {line.pid for line in journal.lines(run_id=held.run_id, step="after")}
    # It works again: the other one may go.
    assert other.stop() == 0
    (run_id,) = deployment.invoke("march", {"steps": 2, "rest_s": 0.0})
    journal.check(deployment.wait_until_final([run_id]))
    assert {line.pid for line in journal.lines(run_id=run_id)} == {late_pid}
