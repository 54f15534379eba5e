"""A worker that was paused starts nothing before it has heard from the store again. Rule S9.4."""

from __future__ import annotations

import os
import signal
import time

from taskflow.values.clock import boot_ns
from taskflow.worker.lease import NS_PER_S, Lease, Progress
from tests.worker.conftest import StartWorker, wait_until


def test_worker_paused_longer_than_its_lease_may_start_nothing(start_worker: StartWorker) -> None:
    worker = start_worker(heartbeat_interval_s=0.05, lease_s=0.3)
    worker.wait_entries("ready")
    os.killpg(worker.pid, signal.SIGSTOP)
    paused_s = time.monotonic()
    worker.switch("store-down")  # the supervisor, too, must not renew it first
    wait_until(lambda: time.monotonic() - paused_s > 0.4, description="the end of the lease")
    os.killpg(worker.pid, signal.SIGCONT)
    (lost,) = worker.wait_entries("lease")
    assert lost.detail is False
    worker.unswitch("store-down")
    assert worker.wait_entries("lease", 2)[1].detail is True


def test_lease_ends_when_only_the_supervisor_is_paused(start_worker: StartWorker) -> None:
    worker = start_worker(heartbeat_interval_s=0.05, lease_s=0.3)
    worker.wait_entries("ready")
    worker.signal(signal.SIGSTOP)
    (lost,) = worker.wait_entries("lease")
    worker.signal(signal.SIGCONT)
    last_beat = max(e.at_s for e in worker.journal.read("heartbeat") if e.at_s < lost.at_s)
    assert lost.detail is False
    assert 0.25 < lost.at_s - last_beat < 0.6
    assert worker.wait_entries("lease", 2)[1].detail is True


def test_lease_is_not_valid_before_the_first_heartbeat() -> None:
    lease = Lease(lease_s=10.0)
    assert not lease.is_valid()
    lease.close()


def test_lease_counts_from_the_sending_of_the_heartbeat_and_keeps_a_margin() -> None:
    lease = Lease(lease_s=10.0)
    lease.renew(boot_ns() - 8 * NS_PER_S)
    assert lease.is_valid()
    lease.renew(boot_ns() - 11 * NS_PER_S)
    assert not lease.is_valid()
    lease.close()


def test_claim_from_before_the_loss_stays_lost_when_the_lease_is_valid_again() -> None:
    lease = Lease(lease_s=10.0)
    lease.renew(boot_ns())
    claimed_in = lease.epoch
    lease.lose()
    assert not lease.is_valid()
    lease.renew(boot_ns())
    assert lease.is_valid()
    assert not lease.is_valid(epoch=claimed_in)
    assert lease.is_valid(epoch=lease.epoch)
    lease.close()


def test_progress_tells_how_long_ago_the_loop_turned() -> None:
    fresh, turned = Progress(), Progress()
    turned.loop_turned()
    assert fresh.loop_age_s is None
    age_s = turned.loop_age_s
    assert age_s is not None
    assert 0 <= age_s < 5
    fresh.close()
    turned.close()
