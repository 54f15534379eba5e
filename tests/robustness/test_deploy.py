"""Deploys under load, and code that blocks: no attempt is counted, nothing is lost or done twice. Rules S9.4, S9.6, S9.9."""

from __future__ import annotations

import signal
import threading
import time

import orjson
import pytest

from tests.processes import is_alive, wait_until
from tests.robustness.app import RELEASE_VARIABLE
from tests.robustness.conftest import Measure
from tests.robustness.deployment import Deployment, Load

pytestmark = pytest.mark.chaos

SILENCE_S = 11.0  # after that long without a heartbeat, a worker counts as dead
HAND_OVER_S = 2.0


def test_rolling_restarts_under_load_repeat_no_step_and_count_no_attempt(
    deployment: Deployment, measure: Measure
) -> None:
    deployment.start_beat()
    worker = deployment.start_worker(processes=2)
    with Load(deployment, function="five", data={"rest_s": 0.05}, every_s=0.02) as load:
        load.wait_for(20)
        for number in (1, 2):
            old = worker.children()
            began_s = time.monotonic()
            worker.send_signal(signal.SIGHUP)
            worker.wait_for_line("rolling restart is done", count=number)
            measure("SIGHUP, two children are replaced", time.monotonic() - began_s)
            wait_until(lambda old=old: not any(map(is_alive, old)), what="the end of the old ones")  # type: ignore[misc]
            load.wait_for(20)
    runs = deployment.wait_until_final(load.taken)
    deployment.journal.check(runs, allow_repeats=False)
    assert not any("crash_log" in run.fields for run in runs)


def test_new_worker_replaces_the_old_one_under_load(deployment: Deployment, measure: Measure) -> None:
    deployment.start_beat()
    worker = deployment.start_worker(processes=2)
    with Load(deployment, function="five", data={"rest_s": 0.05}, every_s=0.02) as load:
        for _ in range(2):
            load.wait_for(20)
            successor = deployment.start_worker(processes=2)
            began_s = time.monotonic()
            assert worker.stop() == 0
            measure("SIGTERM under load, the worker has drained", time.monotonic() - began_s)
            worker = successor
        load.wait_for(20)
    deployment.journal.check(deployment.wait_until_final(load.taken), allow_repeats=False)


def test_a_function_that_only_the_new_version_has_misses_no_event_while_the_deploy_rolls(
    deployment: Deployment, measure: Measure
) -> None:
    """S2.7: from the moment when its first worker is ready, though old workers route most of the events."""
    deployment.start_beat()
    old = [deployment.start_worker() for _ in range(3)]
    release = {RELEASE_VARIABLE: "2"}
    deployment.start_worker(env=release)
    with Load(deployment, function="added", data={"rest_s": 0.01}, every_s=0.02) as load:
        while old:
            load.wait_for(30)
            deployment.start_worker(env=release)
            assert old.pop().stop() == 0
        load.wait_for(30)
    runs = deployment.wait_until_final(load.taken)
    deployment.journal.check(runs, allow_repeats=False)
    waits_s = sorted(float(int(run.fields["started"]) - int(run.fields["created"])) / 1000 for run in runs)
    measure(f"slowest start of {len(waits_s)} runs whose event an old worker may have routed", waits_s[-1])
    measure("half of them started within", waits_s[len(waits_s) // 2])
    assert waits_s[-1] < HAND_OVER_S


def test_runs_that_outlast_the_drain_timeout_go_on_in_another_worker_at_once(
    deployment: Deployment, measure: Measure
) -> None:
    deployment.start_beat()
    worker = deployment.start_worker("--drain-timeout", "300ms")
    run_ids = deployment.invoke("held", count=5)
    deployment.wait_for_starts("gate", 5)
    deployment.start_worker()
    deployment.mark_work_message_as_sent()  # and it dies with the process
    began_s = time.monotonic()
    assert worker.stop() == 0
    stopped_s = time.monotonic()
    assert stopped_s - began_s < 0.3 + HAND_OVER_S
    deployment.wait_for_starts("gate", 10, deadline_s=HAND_OVER_S)
    measure("drain timeout over, the last run goes on", time.monotonic() - stopped_s)
    deployment.open_gate()
    deployment.journal.check(deployment.wait_until_final(run_ids))


@pytest.mark.parametrize("function", ["body", "blocking-body"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_functions_without_steps_are_waited_for(
    deployment: Deployment, measure: Measure, function: str, number: signal.Signals
) -> None:
    """S4.7, S9.6: each begins once, whichever process it is in, and its outcome is stored."""
    deployment.start_beat()
    worker = deployment.start_worker(processes=2)
    run_ids = deployment.invoke(function, {"rest_s": 1.5}, count=6)
    deployment.wait_for_starts("body", 6)
    began_s = time.monotonic()
    if number is signal.SIGTERM:
        deployment.start_worker()
        assert worker.stop() == 0
    else:
        worker.send_signal(number)
        worker.wait_for_line("rolling restart is done")
    measure(f"{number.name}, bodies of 1.5 s have ended", time.monotonic() - began_s)
    runs = deployment.wait_until_final(run_ids)
    ends = {line.token for line in deployment.journal.lines(what="end", step="body")}
    assert len(deployment.journal.lines(what="start", step="body")) == len(ends) == 6
    assert {run.status for run in runs} == {"completed"}
    assert {orjson.loads(run.fields["output"]) for run in runs} == ends


def test_runs_between_two_steps_are_handed_over_without_a_repetition(
    deployment: Deployment, measure: Measure
) -> None:
    deployment.start_beat()
    worker = deployment.start_worker()
    run_ids = deployment.invoke("march", {"steps": 250, "rest_s": 0.02}, count=10)
    deployment.wait_for_starts("step-5", 10)
    deployment.start_worker()
    began_ns = time.monotonic_ns()
    assert worker.stop() == 0
    deployment.journal.check(deployment.wait_until_final(run_ids), allow_repeats=False)
    starts = [line.at_ns for line in deployment.journal.lines(what="start", run_id=run_ids[-1])]
    pauses = [later - earlier for earlier, later in zip(starts, starts[1:], strict=False) if later > began_ns]
    measure("SIGTERM between two steps, the run goes on elsewhere", max(pauses) / 1e9)
    assert max(pauses) / 1e9 < HAND_OVER_S


def test_blocking_step_delays_neither_heartbeats_nor_async_peers(
    deployment: Deployment, measure: Measure
) -> None:
    deployment.start_beat()
    worker = deployment.start_worker()
    # Its whole loop stands still, so it has a queue of its own.
    frozen_worker = deployment.start_worker("-Q", "frozen")
    slow_ids = deployment.invoke("blocking", {"block_s": SILENCE_S / 2 + 1}, count=10)
    deployment.wait_for_starts("one", 10)
    (frozen_id,) = deployment.invoke("frozen", {"block_s": SILENCE_S + 2})
    deployment.wait_for_starts("freeze", 1)
    slowest_s = 0.0
    pace = threading.Event()  # never set
    while not pace.wait(0.1) and deployment.runs([frozen_id])[0].status == "running":
        began_s = time.monotonic()
        deployment.journal.check(
            deployment.wait_until_final(deployment.invoke("march", {"steps": 5, "rest_s": 0.0}))
        )
        slowest_s = max(slowest_s, time.monotonic() - began_s)
    measure("slowest run of 5 empty steps beside 10 that block", slowest_s)
    assert slowest_s < 1.0
    runs = deployment.wait_until_final([frozen_id, *slow_ids])
    deployment.journal.check(runs, allow_repeats=False)
    for process in (worker, frozen_worker):
        assert "declared dead" not in process.stderr
