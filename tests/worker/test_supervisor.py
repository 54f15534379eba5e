"""The supervisor keeps its children and their claims alive. Rules S9.3, S9.8, S9.9."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from taskflow.errors import ConfigError
from taskflow.worker.supervisor.children import RestartBackoff
from taskflow.worker.supervisor.options import SupervisorOptions
from tests.worker.conftest import StartWorker, kill, wait_until

AT_ONCE = {"short_life_s": 0.0}  # a child that died is replaced at once however young it was


def test_worker_runs_as_many_children_as_asked_and_registers_each_before_it_works(
    start_worker: StartWorker,
) -> None:
    worker = start_worker(processes=2)
    ready = worker.wait_entries("ready", 2)
    for child in ready:
        registered = next(beat for beat in worker.journal.read("heartbeat") if child.child_id in beat.detail)
        assert registered.at_s <= child.at_s
    assert len({entry.child_id for entry in ready}) == 2


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (signal.SIGKILL, "killed by signal 9 (SIGKILL; out of memory?)"),
        (signal.SIGSEGV, "killed by signal 11 (SIGSEGV)"),
    ],
)
def test_killed_child_is_handed_back_with_its_cause_and_replaced_within_half_a_second(
    start_worker: StartWorker, number: signal.Signals, cause: str
) -> None:
    worker = start_worker(processes=2, backoff=AT_ONCE)
    victim = worker.wait_entries("ready", 2)[0]
    last = worker.journal.read()[-1].at_s
    kill(victim, number)
    (hand_back,) = worker.wait_entries("hand_back")
    successor = worker.wait_entries("start", 3)[2]
    assert hand_back.child_id == victim.child_id
    assert hand_back.detail == {"cause": cause, "crashed": True}
    assert successor.child_id != victim.child_id
    assert max(hand_back.at_s, successor.at_s) - last < 0.5
    worker.wait_entries("ready", 3)
    assert len(worker.living_children()) == 2


def test_heartbeats_go_on_for_a_child_that_is_blocked_by_user_code(start_worker: StartWorker) -> None:
    worker = start_worker(heartbeat_interval_s=0.05, lease_s=0.5)
    (child,) = worker.wait_entries("ready")
    kill(child, signal.SIGALRM)
    worker.wait_entries("blocks")
    count = len(worker.journal.read("heartbeat"))
    beats = worker.wait_entries("heartbeat", count + 12)
    assert beats[-1].detail == [child.child_id]
    assert worker.living_children() == [child.pid]


def test_blocked_event_loop_is_logged_once_and_so_is_its_end(start_worker: StartWorker) -> None:
    worker = start_worker(heartbeat_interval_s=0.05, lease_s=5, blocked_after_s=0.3)
    (child,) = worker.wait_entries("ready")
    kill(child, signal.SIGALRM)
    worker.wait_log("event loop blocked for 0.3 s: a blocking call in an async handler?")
    count = len(worker.journal.read("heartbeat"))
    worker.wait_entries("heartbeat", count + 5)
    worker.switch("unblock")
    worker.wait_log("goes on")
    assert worker.log.count("event loop blocked") == 1


def test_child_that_dies_young_again_and_again_is_replaced_ever_later(start_worker: StartWorker) -> None:
    worker = start_worker(backoff={"initial_s": 0.1, "maximum_s": 0.4})
    worker.wait_entries("ready")
    worker.switch("dies")
    kill(worker.journal.read("ready")[0])
    starts = [entry.at_s for entry in worker.wait_entries("start", 6)]
    pauses = [later - earlier for earlier, later in zip(starts[1:], starts[2:], strict=False)]
    for pause, at_least in zip(pauses, [0.2, 0.4, 0.4, 0.4], strict=True):
        assert at_least <= pause < at_least + 0.3
    worker.unswitch("dies")
    worker.wait_entries("ready", 2)


def test_backoff_doubles_up_to_its_maximum() -> None:
    backoff = RestartBackoff(initial_s=0.5, maximum_s=30.0)
    assert [backoff.delay_s(n) for n in (0, 1, 2, 3, 7, 10_000)] == [0.0, 0.5, 1.0, 2.0, 30.0, 30.0]


def test_failed_start_says_why_on_stderr_and_exits_1(start_worker: StartWorker) -> None:
    worker = start_worker(processes=2, switches={"broken": "cannot import the app 'shop.tasks'"})
    assert worker.wait_exit() == 1
    assert (
        "taskflow: the worker can't start: cannot import the app 'shop.tasks'\n  Repair it.\n" in worker.log
    )
    assert worker.log.count("can't start") == 1
    assert worker.living_children() == []


def test_child_that_dies_before_it_is_ready_is_a_failed_start_too(start_worker: StartWorker) -> None:
    worker = start_worker(switches={"dies": ""})
    assert worker.wait_exit() == 1
    assert "the worker can't start: its child process ended before it was ready, by exit code 3" in worker.log


def test_first_child_that_is_killed_before_it_is_ready_is_replaced(start_worker: StartWorker) -> None:
    worker = start_worker(switches={"slow": ""}, backoff={"initial_s": 0.05, "maximum_s": 0.05})
    (first,) = worker.wait_entries("start")
    worker.unswitch("slow")
    worker.switch("version", "2")
    kill(first)
    worker.wait_log("killed by signal 9")
    worker.wait_entries("ready")
    assert len(worker.journal.read("start")) == 2


def test_child_that_cannot_start_later_is_logged_and_tried_again(start_worker: StartWorker) -> None:
    worker = start_worker(backoff={"initial_s": 0.05, "maximum_s": 0.05})
    (first,) = worker.wait_entries("ready")
    worker.switch("broken", "no route to the broker")
    kill(first)
    worker.wait_log("no route to the broker Repair it.")
    worker.unswitch("broken")
    worker.wait_entries("ready", 2)


def test_children_exit_within_a_second_when_the_supervisor_is_killed(start_worker: StartWorker) -> None:
    worker = start_worker(processes=3)
    worker.wait_entries("ready", 3)
    worker.signal(signal.SIGKILL)
    assert worker.wait_exit() == -signal.SIGKILL
    wait_until(lambda: not worker.living_children(), description="end of the orphans", deadline_s=1.0)
    assert {entry.what for entry in worker.journal.read()} >= {"orphaned"}, "they had time to hand back"


def test_child_inherits_only_its_own_two_pipes(start_worker: StartWorker) -> None:
    """A pipe of a sibling would hide the supervisor's death from that sibling."""
    worker = start_worker(processes=3, backoff=AT_ONCE)
    kill(worker.wait_entries("ready", 3)[0])
    assert [entry.detail for entry in worker.wait_entries("start", 4)] == [["pipe", "pipe"]] * 4


def test_child_that_is_blocked_ends_within_a_second_of_its_supervisor_too(start_worker: StartWorker) -> None:
    worker = start_worker(processes=2)
    for child in worker.wait_entries("ready", 2):
        kill(child, signal.SIGALRM)
    worker.wait_entries("blocks", 2)
    worker.signal(signal.SIGKILL)
    worker.wait_exit()
    wait_until(lambda: not worker.living_children(), description="end of the orphans", deadline_s=1.0)


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 child"):
        SupervisorOptions(child_main=lambda link: 0, processes=0)
    with pytest.raises(ConfigError, match="at least twice the interval"):
        SupervisorOptions(child_main=lambda link: 0, heartbeat_interval_s=6.0, lease_s=10.0)


def test_supervisor_imports_nothing_heavy() -> None:
    code = "import taskflow.worker.supervisor.supervisor, sys; sys.stdout.write(' '.join(sys.modules))"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"asyncio", "kombu", "celpy", "croniter", "redis", "rich", "click"} & set(modules)
