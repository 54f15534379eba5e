"""The worker's standing with the store: outages, and claims that it lost. Rules S9.4, S9.5."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

from taskflow.worker.lease import Lease
from taskflow.worker.messages import Hello
from taskflow.worker.supervisor.heartbeats import Heartbeats
from tests.worker.conftest import StartWorker, kill


def test_outage_of_the_store_and_its_end_are_logged_once_and_nothing_restarts(
    start_worker: StartWorker,
) -> None:
    worker = start_worker(processes=2, heartbeat_interval_s=0.05, lease_s=0.4)
    worker.wait_entries("ready", 2)
    worker.switch("store-down")
    stopped = worker.wait_entries("lease", 2)
    assert [entry.detail for entry in stopped] == [False, False], "without the store no step may start"
    worker.unswitch("store-down")
    resumed = worker.wait_entries("lease", 4)[2:]
    assert [entry.detail for entry in resumed] == [True, True]
    assert worker.log.count("no answer from the store (StoreUnavailable: the switch says") == 1
    assert worker.log.count("the store answers again") == 1
    assert len(worker.journal.read("start")) == 2


def test_child_that_dies_while_the_store_is_down_is_replaced_and_handed_back_later(
    start_worker: StartWorker,
) -> None:
    worker = start_worker(backoff={"short_life_s": 0})
    (child,) = worker.wait_entries("ready")
    worker.switch("store-down")
    kill(child)
    worker.wait_entries("start", 2)
    worker.wait_log("no answer from the store")
    assert worker.journal.read("hand_back") == []
    worker.unswitch("store-down")
    (hand_back,) = worker.wait_entries("hand_back")
    assert hand_back.child_id == child.child_id
    worker.wait_entries("ready", 2)


def test_store_that_stalls_delays_reaping_and_signals_by_a_second_at_most(start_worker: StartWorker) -> None:
    worker = start_worker(backoff={"short_life_s": 0}, heartbeat_interval_s=0.05, lease_s=5)
    (child,) = worker.wait_entries("ready")
    worker.switch("store-down", "stall")
    worker.wait_log("no answer from the store")
    last = worker.journal.read()[-1].at_s
    kill(child)
    successor = worker.wait_entries("start", 2)[1]
    assert successor.at_s - last < 4.0  # the stall before the log line counts too
    worker.signal(signal.SIGQUIT)
    assert worker.wait_exit(deadline_s=4.0) == 0
    assert "could not tell the store that this worker leaves" in worker.log


def test_worker_that_starts_before_its_store_waits_for_it(start_worker: StartWorker) -> None:
    worker = start_worker(switches={"store-down": ""})
    worker.wait_log("no answer from the store")
    assert worker.journal.read("ready") == []
    worker.unswitch("store-down")
    worker.wait_entries("ready")


def test_worker_that_was_declared_dead_tells_its_children_that_all_claims_are_lost(
    start_worker: StartWorker,
) -> None:
    worker = start_worker(processes=2, heartbeat_interval_s=0.05, lease_s=0.5)
    worker.wait_entries("ready", 2)
    worker.switch("known-dead")
    assert [entry.detail for entry in worker.wait_entries("epoch", 2)] == [1, 1]
    worker.wait_log("had been declared dead")
    assert worker.log.count("declared dead") == 1, "not when it was new, either"


class LateStore:
    """Confirms a heartbeat half a second after it was sent."""

    def heartbeat(self, worker_id: str, child_ids: list[str], *, now_ms: int) -> bool:
        time.sleep(0.5)
        return True

    def hand_back(
        self, child_id: str, *, cause: str, crashed: bool, now_ms: int, blamed: Sequence[str] = ()
    ) -> int:
        return 0

    def leave(self, worker_id: str) -> None: ...

    def close(self) -> None: ...


def test_lease_counts_from_the_sending_of_a_heartbeat_and_not_from_its_late_answer() -> None:
    heartbeats = Heartbeats(lambda hello: LateStore(), worker_id="w", interval_s=3.0)
    lease = Lease(lease_s=10.0)
    assert heartbeats.introduce(Hello(child_id="w:1", app_id="shop", store_url="test://store"))
    heartbeats.run_due({"w:1": lease}, now_s=time.monotonic())
    assert 9.0 < lease.remaining_s() <= 9.5
    lease.close()
