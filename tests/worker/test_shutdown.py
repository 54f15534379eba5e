"""How a worker stops. Rule S9.6."""

from __future__ import annotations

import os
import signal

import pytest

from tests.worker.conftest import StartWorker, WorkerUnderTest, kill


def start_step(worker: WorkerUnderTest) -> None:
    """Have the first child execute a step that lasts until the switch "finish"."""
    kill(worker.wait_entries("ready")[0], signal.SIGUSR2)
    worker.wait_entries("step begins")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_drains_and_exits_0(start_worker: StartWorker, number: signal.Signals) -> None:
    worker = start_worker(processes=2)
    worker.wait_entries("ready", 2)
    start_step(worker)
    worker.signal(number)
    worker.wait_entries("drains", 2)
    worker.switch("finish")
    assert worker.wait_exit() == 0
    what = [entry.what for entry in worker.journal.read()]
    assert what.index("step ends") < what.index("leave") < what.index("close")
    assert "quit" not in what
    assert all(not entry.detail["crashed"] for entry in worker.journal.read("hand_back"))
    assert len(worker.journal.read("start")) == 2, "nothing was started while it drained"


def test_heartbeats_go_on_while_it_drains(start_worker: StartWorker) -> None:
    worker = start_worker(heartbeat_interval_s=0.05, lease_s=0.5)
    start_step(worker)
    worker.signal(signal.SIGTERM)
    worker.wait_entries("drains")
    worker.wait_entries("heartbeat", len(worker.journal.read("heartbeat")) + 15)
    worker.switch("finish")
    assert worker.wait_exit() == 0
    assert worker.journal.read("lease") == [], "it never ended"


def test_step_that_outlasts_the_drain_timeout_is_killed_and_handed_back_as_no_crash(
    start_worker: StartWorker,
) -> None:
    worker = start_worker(drain_timeout_s=0.3)
    start_step(worker)
    worker.signal(signal.SIGTERM)
    assert worker.wait_exit() == 0
    (hand_back,) = worker.journal.read("hand_back")
    assert hand_back.detail["crashed"] is False
    assert hand_back.detail["cause"].startswith("worker stopped: killed by signal 9")
    assert hand_back.at_s - worker.journal.read("drains")[0].at_s >= 0.29
    assert worker.journal.read("leave")


def test_child_that_crashes_while_it_drains_counts_as_a_crash(start_worker: StartWorker) -> None:
    worker = start_worker()
    start_step(worker)
    worker.signal(signal.SIGTERM)
    (child,) = worker.wait_entries("drains")
    kill(child)
    assert worker.wait_exit() == 0
    assert worker.journal.read("hand_back")[0].detail["crashed"] is True


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_hands_back_at_once(start_worker: StartWorker, second: signal.Signals) -> None:
    worker = start_worker()
    start_step(worker)
    worker.signal(signal.SIGTERM)
    worker.wait_entries("drains")
    worker.signal(second)
    assert worker.wait_exit(deadline_s=1.5) == 0
    assert worker.journal.read("quit")
    assert not worker.journal.read("step ends")
    assert worker.journal.read("leave")


def test_sigquit_hands_back_at_once(start_worker: StartWorker) -> None:
    worker = start_worker(processes=2)
    worker.wait_entries("ready", 2)
    start_step(worker)
    worker.signal(signal.SIGQUIT)
    assert worker.wait_exit(deadline_s=1.5) == 0
    assert len(worker.journal.read("quit")) == 2


def test_child_that_is_blocked_is_killed_soon_after_sigquit(start_worker: StartWorker) -> None:
    worker = start_worker(quit_grace_s=0.3)
    kill(worker.wait_entries("ready")[0], signal.SIGALRM)
    worker.wait_entries("blocks")
    worker.signal(signal.SIGQUIT)
    assert worker.wait_exit() == 0
    assert worker.journal.read("hand_back")[0].detail["crashed"] is False


def test_ctrl_c_in_a_terminal_reaches_the_whole_group_and_drains_once(start_worker: StartWorker) -> None:
    worker = start_worker(processes=2)
    worker.wait_entries("ready", 2)
    start_step(worker)
    os.killpg(worker.pid, signal.SIGINT)
    worker.wait_entries("drains", 2)
    worker.switch("finish")
    assert worker.wait_exit() == 0
    assert worker.journal.read("step ends")
    assert not worker.journal.read("quit")


def test_signals_to_the_group_while_children_are_being_forked_count_once(start_worker: StartWorker) -> None:
    worker = start_worker(processes=8)
    worker.wait_entries("start", 2)
    os.killpg(worker.pid, signal.SIGTERM)
    assert worker.wait_exit() == 0
    assert worker.log.count("draining") == 1
    assert "at once" not in worker.log.replace("send it again to stop at once", "")


def test_stop_before_the_first_child_is_ready_is_clean(start_worker: StartWorker) -> None:
    worker = start_worker(switches={"store-down": ""})
    worker.wait_entries("start")
    worker.wait_log("no answer from the store")
    worker.signal(signal.SIGTERM)
    assert worker.wait_exit() == 0
