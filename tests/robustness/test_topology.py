"""Masters that die or are replaced, slots that move, under load: no process ends, and all goes on unaided. Rule S9.5."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.groups import ClusterGroup, SentinelGroup
from tests.robustness.conftest import Measure
from tests.robustness.deployment import Deployment, Load, family
from tests.robustness.test_outage import assert_outages_are_logged_once, wait_for_flow
from tests.servers import ValkeyServer

RECOVERED_S = 15.0
STORE_SLOT, BROKER_SLOT = 13_907, 3_300  # of the hash tags {0} and {b}

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]


def recovers(
    deployment: Deployment, load: Load, measure: Measure, what: str, harm: Callable[[], object]
) -> None:
    """After the harm, an event that is sent becomes a run, and the run ends, within RECOVERED_S of its begin."""
    load.wait_for(20)
    began_s = time.monotonic()
    harm()
    wait_for_flow(deployment, load, deadline_s=RECOVERED_S)
    took_s = time.monotonic() - began_s
    measure(f"{what}, a new run has ended", took_s)
    assert took_s < RECOVERED_S


def assert_all_have_ended(deployment: Deployment) -> None:
    """Every run that the store has; what a replica did not get before it took over is lost with the master."""
    runs = [run.run_id for run in deployment.all_runs("five")]
    assert len(runs) > 50
    assert {run.status for run in deployment.wait_until_final(runs, deadline_s=30)} == {"completed"}


@pytest.mark.redis
def test_masters_are_killed_and_replaced_by_hand_under_load(tmp_path: Path, measure: Measure) -> None:
    with SentinelGroup() as group:
        url = group.url
        with Deployment(
            tmp_path, store=url, broker=url, namespace="tf", admin=group.client(group.master())
        ) as deployment:
            processes = [
                deployment.start_beat(),
                deployment.start_worker(processes=2),
                deployment.start_worker(),
            ]
            pids = family(processes)

            def kill() -> None:
                killed = group.kill_master()
                deployment.redis = group.client(group.wait_for_heir(killed))

            def replace() -> None:
                former = group.fail_over()
                deployment.redis = group.client(group.wait_for_heir(former))

            with Load(deployment, function="five", data={"rest_s": 0.05}, every_s=0.05) as load:
                recovers(deployment, load, measure, "the master was killed and had an heir", kill)
                recovers(deployment, load, measure, "the master was replaced by hand", replace)
            assert_all_have_ended(deployment)
            assert family(processes) == pids, "nothing had to be started again"


@pytest.mark.redis
def test_slots_move_and_their_owners_are_replaced_and_killed_under_load(
    tmp_path: Path, measure: Measure
) -> None:
    with ClusterGroup() as group:
        url = group.url
        with Deployment(tmp_path, store=url, broker=url, namespace="tf", admin=group.admin()) as deployment:
            processes = [
                deployment.start_beat(),
                deployment.start_worker(processes=2),
                deployment.start_worker(),
            ]
            pids = family(processes)

            def kill() -> None:
                killed = group.kill_owner(STORE_SLOT)
                deployment.redis.close()
                deployment.redis = group.client(group.wait_for_heir(killed, STORE_SLOT))

            def move(slot: int) -> None:
                source, target = group.begin_move(slot)
                group.move_keys(slot, source, target)
                group.end_move(slot, source, target)

            with Load(deployment, function="five", data={"rest_s": 0.05}, every_s=0.05) as load:
                for slot, whose in ((STORE_SLOT, "the store's"), (BROKER_SLOT, "the broker's")):
                    recovers(deployment, load, measure, f"{whose} slot moved", partial(move, slot))
                    recovers(
                        deployment,
                        load,
                        measure,
                        f"{whose} owner was replaced",
                        partial(group.fail_over, slot),
                    )
            deployment.journal.check(deployment.wait_until_final(load.taken, deadline_s=30))
            with Load(deployment, function="five", data={"rest_s": 0.05}, every_s=0.05) as load:
                recovers(deployment, load, measure, "the owner was killed", kill)
            assert_all_have_ended(deployment)
            assert family(processes) == pids, "nothing had to be started again"


def test_a_server_refuses_writes_for_a_while_under_load(tmp_path: Path, measure: Measure) -> None:
    """As one without enough replicas does. Every process says so once a connection, not at each try."""
    with ValkeyServer() as server:
        url = server.url
        with Deployment(tmp_path, store=url, broker=url, namespace="tf", send_timeout="1s") as deployment:
            processes = [deployment.start_beat(), deployment.start_worker(processes=2)]
            pids = family(processes)

            def refuse_and_relent() -> None:
                deployment.redis.config_set("min-replicas-to-write", 1)
                load.wait_for_refusals(2)
                deployment.redis.config_set("min-replicas-to-write", 0)

            with Load(deployment, function="five", data={"rest_s": 0.05}, every_s=0.05) as load:
                load.wait_for(50)
                recovers(deployment, load, measure, "a server refused writes", refuse_and_relent)
            deployment.journal.check(deployment.wait_until_final(load.taken, deadline_s=30))
            assert family(processes) == pids, "nothing had to be started again"
            for process in processes:
                assert_outages_are_logged_once(process, outages=1)
