"""Children are replaced without a gap: recycling (S6.3) and rolling restarts."""

from __future__ import annotations

import signal

from tests.worker.conftest import StartWorker, kill, wait_until


def test_recycled_child_works_until_its_successor_is_ready_and_then_drains(start_worker: StartWorker) -> None:
    worker = start_worker()
    (old,) = worker.wait_entries("ready")
    kill(old, signal.SIGUSR2)
    worker.wait_entries("step begins")
    kill(old, signal.SIGUSR1)
    new = worker.wait_entries("works", 2)[1]
    (drains,) = worker.wait_entries("drains")
    assert drains.child_id == old.child_id
    assert new.at_s <= drains.at_s
    worker.switch("finish")
    (hand_back,) = worker.wait_entries("hand_back")
    assert hand_back.child_id == old.child_id
    assert hand_back.detail == {"cause": "recycled, a step was abandoned: exit code 0", "crashed": False}
    assert worker.living_children() == [new.pid]


def test_recycled_child_that_never_ends_is_killed_after_the_drain_timeout(start_worker: StartWorker) -> None:
    worker = start_worker(drain_timeout_s=0.3)
    (old,) = worker.wait_entries("ready")
    kill(old, signal.SIGUSR2)
    worker.wait_entries("step begins")
    kill(old, signal.SIGUSR1)
    (hand_back,) = worker.wait_entries("hand_back")
    assert hand_back.child_id == old.child_id
    assert hand_back.detail["crashed"] is False


def test_recycled_child_goes_on_while_its_successor_cannot_start(start_worker: StartWorker) -> None:
    worker = start_worker(backoff={"initial_s": 0.05, "maximum_s": 0.05})
    (old,) = worker.wait_entries("ready")
    worker.switch("broken", "no route to the broker")
    kill(old, signal.SIGUSR1)
    worker.wait_entries("start", 3)
    assert old.pid in worker.living_children()
    worker.unswitch("broken")
    worker.wait_entries("ready", 2)
    worker.wait_entries("drains", child_id=old.child_id)


def test_sighup_replaces_all_children_one_by_one(start_worker: StartWorker) -> None:
    worker = start_worker(processes=3, switches={"version": "1"})
    old = {entry.child_id for entry in worker.wait_entries("ready", 3)}
    worker.switch("version", "2")
    worker.signal(signal.SIGHUP)
    worker.wait_log("rolling restart is done")
    new = worker.wait_entries("ready", 6)[3:]  # a child writes that after it has told the supervisor
    assert [entry.detail for entry in new] == ["2", "2", "2"]
    working = set(old)
    for entry in worker.journal.read():
        if entry.what == "works":
            working.add(entry.child_id)
        elif entry.what == "drains":
            working.remove(entry.child_id)
        assert len(working) >= 3, "never fewer children than asked"
        assert len(working) <= 4, "one by one"
    wait_until(lambda: len(worker.living_children()) == 3, description="three children")
    assert {entry.child_id for entry in worker.journal.read("drains")} == old


def test_rolling_restart_to_code_that_does_not_start_leaves_the_old_children(
    start_worker: StartWorker,
) -> None:
    worker = start_worker(processes=2, switches={"version": "1"})
    old = [entry.pid for entry in worker.wait_entries("ready", 2)]
    worker.switch("broken", "SyntaxError in shop/tasks.py")
    worker.signal(signal.SIGHUP)
    worker.wait_log(
        "can't start, rolling restart given up, the old children go on: SyntaxError in shop/tasks.py"
    )
    assert sorted(worker.living_children()) == sorted(old)
    worker.unswitch("broken")
    worker.switch("version", "2")
    worker.signal(signal.SIGHUP)
    worker.wait_log("rolling restart is done")
    assert [entry.detail for entry in worker.wait_entries("ready", 4)[2:]] == ["2", "2"]


def test_sighup_during_a_rolling_restart_begins_again_with_the_newest_code(start_worker: StartWorker) -> None:
    worker = start_worker(drain_timeout_s=20, switches={"version": "1"})
    (old,) = worker.wait_entries("ready")
    kill(old, signal.SIGUSR2)
    worker.wait_entries("step begins")
    worker.switch("version", "2")
    worker.signal(signal.SIGHUP)
    worker.wait_entries("drains", child_id=old.child_id)  # and goes on, as its step isn't over
    worker.switch("version", "3")
    worker.signal(signal.SIGHUP)
    assert worker.wait_entries("ready", 3)[2].detail == "3"
    worker.switch("finish")
    wait_until(lambda: len(worker.living_children()) == 1, description="one child")


def test_sighup_drops_a_successor_that_has_read_older_code_and_is_not_ready(
    start_worker: StartWorker,
) -> None:
    worker = start_worker(switches={"version": "1"})
    worker.wait_entries("ready")
    worker.switch("slow")
    worker.switch("version", "2")
    worker.signal(signal.SIGHUP)
    worker.wait_entries("start", 2)
    worker.switch("version", "3")
    worker.signal(signal.SIGHUP)
    worker.wait_entries("start", 3)
    worker.unswitch("slow")
    worker.wait_log("rolling restart is done")
    assert [entry.detail for entry in worker.wait_entries("ready", 2)] == ["1", "3"]


def test_rolling_restart_waits_until_the_predecessor_has_drained(start_worker: StartWorker) -> None:
    worker = start_worker(processes=2, heartbeat_interval_s=0.05, lease_s=5)
    for child in worker.wait_entries("ready", 2):
        kill(child, signal.SIGUSR2)
    worker.wait_entries("step begins", 2)
    worker.signal(signal.SIGHUP)
    worker.wait_entries("drains")
    worker.wait_entries("heartbeat", len(worker.journal.read("heartbeat")) + 5)
    assert len(worker.journal.read("start")) == 3
    worker.switch("finish")
    worker.wait_log("rolling restart is done")
    assert len(worker.journal.read("start")) == 4


def test_child_that_moves_to_another_store_is_refused(start_worker: StartWorker) -> None:
    worker = start_worker()
    (old,) = worker.wait_entries("ready")
    worker.switch("store-url", "test://other:secret@store")
    worker.signal(signal.SIGHUP)
    worker.wait_log("the app names another store or namespace")
    wait_until(lambda: worker.living_children() == [old.pid], description="only the old child")
    assert "secret" not in worker.log
