"""S13.3, S9.9: the probes of `taskflow worker`, with real processes and a real store."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from taskflow.worker.supervisor.health import SUPERVISOR_LIMIT_S, WorkerHealth
from tests.health import ask, wait_for
from tests.processes import TaskflowProcess, wait_until
from tests.servers import ValkeyServer, free_port

SHOP = """
import time
from pathlib import Path
from taskflow import TaskFlow

app = TaskFlow("shop")
folder = Path(__file__).parent

def wait_for_the_file():
    (folder / "begun").touch()
    while not (folder / "finish").exists():
        time.sleep(0.01)

@app.function()
async def build(ctx, step):
    await step.run("slow", wait_for_the_file)

@app.function()
async def block(ctx, step):
    wait_for_the_file()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer(aof=True) as started:
        yield started


class Shop:
    """A folder with an app, its servers, and the port of its worker's probes."""

    def __init__(self, folder: Path, store: str, broker: str) -> None:
        self.folder = folder
        self.env = {"TASKFLOW_BROKER": broker, "TASKFLOW_STORE": store}
        self.port = free_port()
        (folder / "shop.py").write_text(SHOP)

    @contextmanager
    def worker(self, *options: str, processes: int = 1) -> Iterator[TaskflowProcess]:
        arguments = ("worker", "-A", "shop", "--health-port", str(self.port), "--processes", str(processes))
        with TaskflowProcess(*arguments, *options, cwd=self.folder, env=self.env) as worker:
            yield worker

    def start_run(self, function: str) -> None:
        with TaskflowProcess(
            "invoke", f"shop/{function}", "-A", "shop", cwd=self.folder, env=self.env
        ) as call:
            assert call.wait() == 0, call.stderr
        wait_until(lambda: (self.folder / "begun").exists(), what="the run to begin")

    def finish(self) -> None:
        (self.folder / "finish").touch()


@pytest.fixture
def shop(tmp_path: Path, server: ValkeyServer) -> Shop:
    return Shop(tmp_path, server.url, server.url)


def holders_of(port: int, pids: list[int]) -> list[int]:
    """Which of the processes have the socket that listens on the port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (inode,) = [row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"]
    files = {pid: {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()} for pid in pids}
    return [pid for pid in pids if f"socket:[{inode}]" in files[pid]]


def test_a_worker_that_takes_work_is_live_started_and_ready(shop: Shop) -> None:
    with shop.worker("-B", processes=2) as worker:
        told = wait_for(shop.port, "/readyz", 200)
        assert (told["ok"], told["why"]) == (True, "")
        worker.wait_for_line("this beat leads")
        children = wait_until(
            lambda: (
                [child for child in ask(shop.port, "/livez")[1]["children"] if child["state"] == "running"]
                if len(worker.children()) == 3
                else None
            ),
            what="three children",
        )
        assert {child["pid"] for child in children} <= set(worker.children())
        assert ask(shop.port, "/livez")[0] == 200
        assert ask(shop.port, "/startupz")[0] == 200
        assert {child["name"] for child in ask(shop.port, "/readyz")[1]["children"]} == {"child", "beat"}
        assert holders_of(shop.port, [worker.pid, *worker.children()]) == [worker.pid]
        assert worker.stop() == 0


def test_a_worker_that_starts_is_live_but_neither_started_nor_ready(shop: Shop) -> None:
    (shop.folder / "shop.py").write_text(
        f"import time\nwhile not __import__('os').path.exists('finish'): time.sleep(0.01)\n{SHOP}"
    )
    with shop.worker() as worker:
        wait_for(shop.port, "/startupz", 503, why="no child has been ready yet")
        wait_for(shop.port, "/readyz", 503, why="it is starting")
        assert ask(shop.port, "/livez")[0] == 200
        shop.finish()
        wait_for(shop.port, "/startupz", 200)
        wait_for(shop.port, "/readyz", 200)
        assert worker.stop() == 0


def test_a_worker_that_drains_is_live_and_not_ready(shop: Shop) -> None:
    """S9.6: no restart may cut off the step that it waits for."""
    with shop.worker() as worker:
        wait_for(shop.port, "/readyz", 200)
        shop.start_run("build")
        worker.send_signal(signal.SIGTERM)
        told = wait_for(shop.port, "/readyz", 503, why="draining")
        assert [child["state"] for child in told["children"]] == ["draining"]
        assert ask(shop.port, "/livez")[0] == 200
        assert ask(shop.port, "/startupz")[0] == 200
        shop.finish()
        assert worker.wait() == 0


def test_a_killed_child_is_replaced_and_the_worker_is_ready_again(shop: Shop) -> None:
    with shop.worker() as worker:
        before = wait_for(shop.port, "/readyz", 200)["children"][0]
        os.kill(before["pid"], signal.SIGKILL)

        def is_replaced() -> bool:
            status, told = ask(shop.port, "/readyz")
            return status == 200 and told["children"][0]["pid"] != before["pid"]

        assert ask(shop.port, "/livez")[0] == 200
        wait_until(is_replaced, what="another child to take work")
        assert ask(shop.port, "/livez")[0] == 200
        assert worker.stop() == 0


def test_without_its_store_a_worker_is_live_and_not_ready_until_it_is_back(
    shop: Shop, server: ValkeyServer
) -> None:
    """S9.5"""
    with shop.worker() as worker:
        wait_for(shop.port, "/readyz", 200)
        server.kill()
        try:
            wait_for(shop.port, "/readyz", 503, why="no answer from the store: ")
            assert ask(shop.port, "/livez")[0] == 200
        finally:
            server.restart()
        wait_for(shop.port, "/readyz", 200)
        assert worker.stop() == 0


def test_a_store_that_stands_still_holds_up_no_answer(shop: Shop, server: ValkeyServer) -> None:
    """The supervisor waits for it, a second each time; the probe does not."""
    with shop.worker() as worker:
        wait_for(shop.port, "/readyz", 200)
        server.pause()
        try:
            wait_for(shop.port, "/readyz", 503, why="no answer from the store: ")
            assert ask(shop.port, "/livez")[0] == 200
        finally:
            server.resume()
        wait_for(shop.port, "/readyz", 200)
        assert worker.stop() == 0


def test_without_its_broker_a_worker_is_live_and_not_ready_until_it_is_back(
    tmp_path: Path, server: ValkeyServer
) -> None:
    with ValkeyServer() as broker:
        shop = Shop(tmp_path, server.url, broker.url)
        with shop.worker() as worker:
            wait_for(shop.port, "/readyz", 200)
            broker.kill()
            wait_for(shop.port, "/readyz", 503, why="no connection to the broker")
            assert ask(shop.port, "/livez")[0] == 200
            broker.restart()
            wait_for(shop.port, "/readyz", 200)
            assert worker.stop() == 0


def test_a_worker_whose_event_loop_stands_still_is_not_live_until_it_goes_on(shop: Shop) -> None:
    with shop.worker("--blocked-after", "500ms") as worker:
        child = wait_for(shop.port, "/readyz", 200)["children"][0]
        shop.start_run("block")
        told = wait_for(shop.port, "/livez", 503, why="its event loop has stood still")
        assert told["why"].startswith(f"child {child['child']} (pid {child['pid']}): ")
        assert told["children"][0]["problem"].startswith("its event loop has stood still")
        assert ask(shop.port, "/readyz")[0] == 503
        shop.finish()
        wait_for(shop.port, "/livez", 200)
        assert worker.stop() == 0


def test_a_worker_whose_supervisor_has_not_turned_for_long_is_not_live() -> None:
    health = WorkerHealth(blocked_after_s=5)
    health.note({}, is_draining=False, is_running=True, outage="")
    assert health.live().ok
    health.latest = replace(health.latest, turned_s=health.latest.turned_s - SUPERVISOR_LIMIT_S)
    assert health.live().why == "the supervisor has not turned for 30 s"


def test_a_port_that_is_taken_is_an_error_at_the_start(shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", shop.port)), shop.worker() as worker:
        assert worker.wait() == 1
        assert worker.stderr.strip() == (
            f"taskflow: nothing can listen for probes on port {shop.port} of 127.0.0.1: Address already in use. "
            "Choose another --health-port or --health-host, or end what listens there."
        )


def test_a_step_may_fork(shop: Shop) -> None:
    """A fork waits until the server's thread rests; in a child there is none, and nothing that it holds."""
    (shop.folder / "shop.py").write_text(
        SHOP
        + """
import os

@app.function()
async def fork(ctx, step):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    (folder / "begun").touch()
"""
    )
    with shop.worker() as worker:
        wait_for(shop.port, "/readyz", 200)
        shop.start_run("fork")
        assert worker.stop() == 0
