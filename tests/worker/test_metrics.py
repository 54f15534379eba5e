"""S13.1: `/metrics` of `taskflow worker` has what all of its processes have counted, those that died too."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.health import wait_for
from tests.observability.prometheus import Scrape, scrape
from tests.processes import TaskflowProcess, wait_until
from tests.servers import ValkeyServer, free_port

SHOP = """
import os, signal
from pathlib import Path
from taskflow import NonRetriableError, TaskFlow

app = TaskFlow("shop", retries=1)

def fails_once():
    mark = Path(__file__).parent / "failed"
    if not mark.exists():
        mark.touch()
        raise OSError("the line is down")

@app.function(trigger="shop/order")
async def fulfil(ctx, step):
    await step.run("reserve", len, "abc")
    return 1

@app.function()
async def unlucky(ctx, step):
    await step.run("charge", fails_once)

@app.function()
async def doomed(ctx, step):
    raise NonRetriableError("no such customer 4711")

@app.function()
async def crashes(ctx, step):
    mark = Path(__file__).parent / "crashed"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as started:
        yield started


class Shop:
    """A folder with an app, and the port of its worker."""

    def __init__(self, folder: Path, url: str, namespace: str) -> None:
        self.folder = folder
        self.env = {"TASKFLOW_BROKER": url, "TASKFLOW_STORE": url, "TASKFLOW_NAMESPACE": namespace}
        self.port = free_port()
        (folder / "shop.py").write_text(SHOP)

    @contextmanager
    def worker(self, *options: str) -> Iterator[TaskflowProcess]:
        arguments = ("worker", "-A", "shop", "--health-port", str(self.port), *options)
        with TaskflowProcess(*arguments, cwd=self.folder, env=self.env) as worker:
            wait_for(self.port, "/readyz", 200)
            yield worker

    def call(self, *arguments: str) -> None:
        with TaskflowProcess(*arguments, "-A", "shop", cwd=self.folder, env=self.env) as process:
            assert process.wait() == 0, process.stderr

    def wait_for(self, name: str, value: float, **labels: str) -> Scrape:
        """Wait until the rows of the name with these labels add up to `value`."""

        def found() -> Scrape | None:
            each = scrape(self.port)
            return each if each.total(name, **labels) == value else None

        return wait_until(found, what=f"{name}{labels} {value}", deadline_s=30)


@pytest.fixture
def shop(tmp_path: Path, server: ValkeyServer, request: pytest.FixtureRequest) -> Shop:
    return Shop(tmp_path, server.url, f"m{abs(hash(request.node.name)) % 10**8}")


def test_the_numbers_of_all_processes_are_summed(shop: Shop) -> None:
    with shop.worker("--processes", "2", "-B") as worker:
        for _ in range(5):
            shop.call("send", "shop/order")
        shop.call("invoke", "shop/unlucky")
        shop.call("invoke", "shop/doomed")
        shop.wait_for("taskflow_runs_ended_total", 1, status="failed")
        shop.wait_for("taskflow_attempts_failed_total", 1)
        fulfil = {"function": "shop/fulfil"}
        found = shop.wait_for("taskflow_runs_ended_total", 5, status="completed", **fulfil)
        assert found.value("taskflow_runs_started_total", **fulfil, cause="event") == 5
        assert found.value("taskflow_runs_started_total", function="shop/doomed", cause="invoke") == 1
        assert found.value("taskflow_runs_ended_total", **fulfil, status="completed", error="") == 5
        assert (
            found.value(
                "taskflow_runs_ended_total",
                function="shop/doomed",
                status="failed",
                error="NonRetriableError",
            )
            == 1
        )
        assert found.value("taskflow_attempts_failed_total", function="shop/unlucky", error="OSError") == 1
        assert found.value("taskflow_step_seconds_count", **fulfil, outcome="completed") == 5
        assert found.value("taskflow_step_seconds_count", function="shop/unlucky", outcome="failed") == 1
        assert found.value("taskflow_queue_wait_seconds_count", **fulfil) == 5
        assert found.value("taskflow_run_seconds_count", **fulfil) == 5
        assert (found.value("taskflow_events_routed_total") or 0) >= 5
        assert found.value("taskflow_children", state="running") == 2
        assert found.value("taskflow_ready") == 1
        assert found.total("taskflow_slots") == 200
        assert (found.value("taskflow_memory_bytes") or 0) > 10_000_000
        assert found.total("taskflow_event_loop_lag_seconds_count") >= 2

        found = shop.wait_for("taskflow_beat_leads", 1)
        found = shop.wait_for("taskflow_queue_workers", 1, app="shop", queue="default")
        assert found.value("taskflow_dead_letters") == 0

        for value in found.label_values():
            assert str(worker.pid) not in value and "4711" not in value
        assert worker.stop() == 0


def test_the_sums_outlive_the_process_that_counted_them(shop: Shop) -> None:
    with shop.worker("--processes", "1") as worker:
        shop.call("send", "shop/order")
        shop.wait_for("taskflow_runs_ended_total", 1)
        (child,) = worker.children()
        os.kill(child, signal.SIGKILL)
        found = shop.wait_for("taskflow_child_deaths_total", 1, cause="SIGKILL")
        assert found.total("taskflow_runs_ended_total") == 1
        wait_for(shop.port, "/readyz", 200)
        shop.call("send", "shop/order")
        shop.wait_for("taskflow_runs_ended_total", 2)
        assert worker.stop() == 0


def test_a_run_that_began_before_a_crash_counts_as_started_once(shop: Shop) -> None:
    with shop.worker("--processes", "1") as worker:
        shop.call("invoke", "shop/crashes")
        found = shop.wait_for("taskflow_runs_ended_total", 1, function="shop/crashes", status="completed")
        assert found.total("taskflow_runs_started_total", function="shop/crashes") <= 1
        assert found.value("taskflow_child_deaths_total", cause="SIGKILL") == 1
        assert worker.stop() == 0
