"""Servers that die, hang or restart, and networks that cut: nothing is lost, and everything recovers unaided. Rules S1.2, S9.5."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskflow import BrokerUnavailable, Context, Step, TaskFlow
from tests.brokers.conftest import require
from tests.processes import TaskflowProcess, wait_until
from tests.proxy import Proxy
from tests.robustness.conftest import Measure
from tests.robustness.deployment import Deployment, Load, family
from tests.servers import RABBITMQ_HINT, RabbitMQServer, ValkeyServer, free_port

SEND_TIMEOUT_S = 1.0
SLACK_S = 0.5  # a busy machine
LEASE_S = 10.0
CUTS = 100

pytestmark = pytest.mark.chaos


@pytest.fixture
def frail_valkey() -> Iterator[ValkeyServer]:
    """A server that loses nothing that it has confirmed (S9.7)."""
    with ValkeyServer(aof=True, appendfsync="always") as server:
        yield server


def test_only_server_is_killed_and_hangs_under_load(
    tmp_path: Path, frail_valkey: ValkeyServer, measure: Measure
) -> None:
    url = frail_valkey.url
    with Deployment(
        tmp_path, store=url, broker=url, namespace="tf", send_timeout=f"{SEND_TIMEOUT_S}s"
    ) as deployment:
        processes = [deployment.start_beat(), deployment.start_worker(processes=2), deployment.start_worker()]
        pids = family(processes)
        with Load(deployment, function="five", data={"rest_s": 0.05}, every_s=0.02) as load:
            for number in (1, 2):
                load.wait_for(50)
                frail_valkey.kill()
                load.wait_for_refusals(2)
                assert_asend_raises_in_time(deployment)
                frail_valkey.restart()
                restarted_s = time.monotonic()
                wait_for_flow(deployment, load)
                measure(
                    f"restart {number} of broker and store, a new run has ended",
                    time.monotonic() - restarted_s,
                )
            frail_valkey.pause()
            load.wait_for_refusals(2)
            assert_asend_raises_in_time(deployment)
            frail_valkey.resume()
            resumed_s = time.monotonic()
            wait_for_flow(deployment, load)
            measure("broker and store hung, a new run has ended", time.monotonic() - resumed_s)
        assert load.slowest_s < SEND_TIMEOUT_S + SLACK_S
        deployment.journal.check(deployment.wait_until_final(load.taken))
        # What was refused may have been taken all the same: such a run is as good as the others.
        deployment.journal.check(
            deployment.wait_until_final([run.run_id for run in deployment.all_runs("five")])
        )
        assert family(processes) == pids, "nothing had to be started again"
        for process in processes:
            assert_outages_are_logged_once(process, outages=3)


def test_runs_are_started_and_cancelled_while_the_broker_is_away(valkey_url: str, namespace: str) -> None:
    broker = f"redis://127.0.0.1:{free_port()}/0"  # nobody listens
    app = TaskFlow("alone", store=valkey_url, broker=broker, namespace=namespace, send_timeout="300ms")

    @app.function()
    async def work(ctx: Context[Step]) -> None: ...

    run = app.invoke(work)  # its work message is lost, which costs time, not the run (S9.2)
    assert run.status() == "queued"
    assert run.cancel() is True
    assert run.status() == "cancelled"
    app.close()


def assert_asend_raises_in_time(deployment: Deployment) -> None:
    """`asend` neither hangs nor holds up the loop while the broker is away."""

    async def try_it() -> tuple[float, float]:
        longest_gap_s, last_s = 0.0, time.monotonic()

        async def watch() -> None:
            nonlocal longest_gap_s, last_s
            while True:
                await asyncio.sleep(0.01)
                longest_gap_s, last_s = max(longest_gap_s, time.monotonic() - last_s), time.monotonic()

        watching = asyncio.create_task(watch())
        began_s = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            await deployment.app.asend("robust/five", {"rest_s": 0.0})
        watching.cancel()
        return time.monotonic() - began_s, longest_gap_s

    took_s, longest_gap_s = asyncio.run(try_it())
    assert took_s < SEND_TIMEOUT_S + SLACK_S
    assert longest_gap_s < SLACK_S, "the loop was blocked"


def wait_for_flow(deployment: Deployment, load: Load, *, deadline_s: float = 20.0) -> None:
    """Wait until an event that is sent from now on has become a run, and the run has ended."""
    known = len(load.taken)
    load.wait_for(1, deadline_s=deadline_s)
    wait_until(
        lambda: any(run.status == "completed" for run in deployment.runs(load.taken[known:])),
        what="a new run that has ended",
        deadline_s=deadline_s,
    )


def assert_outages_are_logged_once(process: TaskflowProcess, *, outages: int) -> None:
    """No message of an outage comes again and again: at most once an outage, process and connection. Rule S9.5."""
    complaints = re.findall(r"(?:WARNING|ERROR) +(taskflow\.\S+: .{20})", process.stderr)
    connections = 3 * (1 + len(process.children()))
    worst = max((complaints.count(text) for text in complaints), default=0)
    assert worst <= outages * connections, process.stderr


@pytest.mark.rabbitmq
@pytest.mark.timeout(150)
def test_rabbitmq_and_store_restart_under_load(
    tmp_path: Path, frail_valkey: ValkeyServer, measure: Measure
) -> None:
    require(RabbitMQServer.is_installed(), RABBITMQ_HINT)
    with (
        RabbitMQServer() as rabbitmq,
        Deployment(
            tmp_path,
            store=frail_valkey.url,
            broker=rabbitmq.url,
            namespace="tf",
            send_timeout=f"{SEND_TIMEOUT_S}s",
        ) as deployment,
    ):
        processes = [deployment.start_beat(), deployment.start_worker(processes=2)]
        pids = family(processes)
        with Load(deployment, function="five", data={"rest_s": 0.05}, every_s=0.05) as load:
            load.wait_for(20)
            (march,) = deployment.invoke("march", {"steps": 30, "rest_s": 0.05})
            deployment.wait_for_starts("step-0", 1)
            rabbitmq.kill()
            load.wait_for_refusals(2)
            deployment.journal.check(deployment.wait_until_final([march]))  # what executes needs no broker
            assert_asend_raises_in_time(deployment)
            rabbitmq.restart()
            restarted_s = time.monotonic()
            wait_for_flow(deployment, load)
            measure("RabbitMQ restarted, a new run has ended", time.monotonic() - restarted_s)
            frail_valkey.kill()
            killed_s = time.monotonic()
            # Longer than the lease of a worker: no step may start meanwhile, and events are taken all the same.
            wait_until(
                lambda: time.monotonic() - killed_s > LEASE_S + 2, what="the end of the lease", deadline_s=20
            )
            load.wait_for(20)
            frail_valkey.restart()
            restarted_s = time.monotonic()
            wait_for_flow(deployment, load)
            measure("store restarted after 12 s, a new run has ended", time.monotonic() - restarted_s)
        assert load.slowest_s < SEND_TIMEOUT_S + SLACK_S
        deployment.journal.check(deployment.wait_until_final(load.taken, deadline_s=30))
        deployment.journal.check(
            deployment.wait_until_final([run.run_id for run in deployment.all_runs("five")])
        )
        assert family(processes) == pids, "nothing had to be started again"


def test_connections_are_reset_100_times_under_load(
    tmp_path: Path, valkey_url: str, namespace: str, measure: Measure
) -> None:
    port = int(valkey_url.rpartition(":")[2].partition("/")[0])
    with (
        Proxy(port) as broker,
        Proxy(port) as store,
        Deployment(
            tmp_path, store=valkey_url, broker=broker.url_of(valkey_url), namespace=namespace
        ) as deployment,
    ):
        deployment.env["TASKFLOW_STORE"] = store.url_of(valkey_url)
        processes = [deployment.start_beat(), deployment.start_worker(processes=2)]
        pids = family(processes)
        with Load(deployment, function="five", data={"rest_s": 0.05}, every_s=0.02) as load:
            load.wait_for(20)
            for number in range(CUTS):
                proxy = (broker, store)[number % 2]
                accepted, forwarded = proxy.accepted, proxy.forwarded_bytes
                # A connection that was opened before may be gone again by now: then the next one is cut.
                wait_until(lambda proxy=proxy: proxy.cut() > 0, what="connections to cut")  # type: ignore[misc]
                wait_until(
                    lambda proxy=proxy, accepted=accepted, forwarded=forwarded: (  # type: ignore[misc]
                        proxy.accepted > accepted and proxy.forwarded_bytes > forwarded + 2_000
                    ),
                    what="new connections",
                )
            ended_s = time.monotonic()
            wait_for_flow(deployment, load)
            measure("after 100 resets, a new run has ended", time.monotonic() - ended_s)
        assert load.refused == 0, "a connection that breaks is no broker that is away"
        deployment.journal.check(deployment.wait_until_final(load.taken))
        assert family(processes) == pids
