"""`taskflow worker` as users run it: real processes, real signals, a real store. Rules S9.3, S9.6 and more."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
import redis

from taskflow import TaskFlow
from taskflow.broker.streams.bindings import StreamKeys
from taskflow.broker.topology import Topology
from taskflow.errors import RunNotFound
from taskflow.run import Run
from taskflow.runs.lookup import find_run
from taskflow.runs.reasons import Moment
from taskflow.store.session import StoreSession
from taskflow.store.store import DATA_VERSION
from taskflow.values.ids import run_id_for
from tests.processes import TaskflowProcess, is_alive, wait_until
from tests.servers import free_port

SHOP = """
import atexit, os, time
from pathlib import Path
from taskflow import TaskFlow

app = TaskFlow("shop", app_version="1.2")
journal = Path(__file__).parent / "journal"

def note(text):
    with journal.open("a") as file:
        file.write(f"{text} {os.getpid()}\\n")

atexit.register(note, "goodbye")

@app.function()
async def greet(ctx, step):
    ctx.logger.info("hello %s", ctx.event.data.get("name"))
    return {"pid": os.getpid()}

@app.function(queue="mail")
async def post(ctx):
    return "posted"

@app.function()
def build(ctx, step):
    step.run("first", note, "first")
    step.run("second", wait_for_the_file)
    step.run("third", note, "third")
    return "built"

def wait_for_the_file():
    note("second")
    while not (journal.parent / "finish").exists():
        time.sleep(0.005)

@app.function(trigger="shop/thing.came")
async def take(ctx):
    return "taken"

@app.function()
async def nap(ctx, step):
    await step.sleep("nap", 0.05)
    return "rested"
"""


class Shop:
    """A folder with an app in it, and the front door to its runs."""

    def __init__(self, folder: Path, app: TaskFlow, env: dict[str, str]) -> None:
        self.folder = folder
        self.app = app
        self.env = env
        self.started: list[TaskflowProcess] = []
        (folder / "shop.py").write_text(SHOP)

    def start(
        self, *arguments: str, target: str = "shop:app", env: dict[str, str] | None = None
    ) -> TaskflowProcess:
        worker = TaskflowProcess(
            "worker", "-A", target, *arguments, cwd=self.folder, env=self.env | (env or {})
        )
        self.started.append(worker)
        return worker

    def start_ready(self, *arguments: str, processes: int = 1) -> TaskflowProcess:
        worker = self.start("--processes", str(processes), *arguments)
        worker.wait_for_line("is ready")
        return worker

    def journal(self, what: str) -> list[int]:
        """The pids that have noted it, in order."""
        path = self.folder / "journal"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [int(pid) for text, pid in lines if text == what]

    def finish(self) -> None:
        """Let the second step of `build` end."""
        (self.folder / "finish").touch()


@pytest.fixture
async def shop(tmp_path: Path, valkey_url: str, namespace: str) -> AsyncIterator[Shop]:
    env = {"TASKFLOW_BROKER": valkey_url, "TASKFLOW_STORE": valkey_url, "TASKFLOW_NAMESPACE": namespace}
    app = TaskFlow("shop", broker=valkey_url, store=valkey_url, namespace=namespace)
    shop = Shop(tmp_path, app, env)
    try:
        yield shop
    finally:
        for worker in shop.started:
            worker.__exit__(None, None, None)
        await app.aclose()


# Serving


async def test_worker_says_one_line_runs_a_function_and_ends_cleanly_at_sigterm(shop: Shop) -> None:
    worker = shop.start("--processes", "2", "--concurrency", "7")
    line = worker.wait_for_line("is ready")
    assert "app shop 1.2, functions by queue: default 4 (not served here: mail 1)" in line
    assert line.endswith("2 processes x 7")
    assert shop.env["TASKFLOW_STORE"] in line
    run = await shop.app.ainvoke("shop/greet", {"name": "Ada"})
    assert (await run.aresult("15s"))["pid"] in worker.children()
    assert f"hello Ada  [shop/greet run {run.id}, attempt 0]" in worker.wait_for_line("hello Ada")
    assert len(worker.stderr.splitlines()) == 2
    assert worker.stop() == 0


async def test_worker_serves_only_the_queues_that_it_is_told(shop: Shop) -> None:
    worker = shop.start_ready("-Q", "mail,other")
    mail = await shop.app.ainvoke("shop/post")
    other = await shop.app.ainvoke("shop/greet")
    assert await mail.aresult("15s") == "posted"
    assert await other.astatus() == "queued"
    assert "functions by queue: mail 1, other 0 (not served here: default 4)" in worker.stderr


def test_hooks_that_the_app_has_registered_for_its_exit_run_in_each_child(shop: Shop) -> None:
    worker = shop.start("--processes", "2", "-B")
    worker.wait_for_line("is ready")
    wait_until(lambda: len(worker.children()) == 3, what="two children and a beat")
    children = worker.children()
    wait_until(lambda: worker.stderr.count("this beat leads") == 1, what="a beat")
    assert worker.stop() == 0
    said = shop.journal("goodbye")
    assert set(said) < set(children)
    assert 1 <= len(said) <= 2, "each once; a child that was not ready yet is killed"


def test_app_is_found_without_its_name_when_the_module_has_only_one(shop: Shop) -> None:
    worker = shop.start("--processes", "1", target="shop")
    worker.wait_for_line("is ready")
    assert worker.stop() == 0


def test_json_logs_are_one_object_a_line_and_hold_no_password(shop: Shop) -> None:
    url = shop.env["TASKFLOW_STORE"].replace("redis://", "redis://default:s3cret@")
    worker = shop.start(
        "--json-logs", "--processes", "1", env={"TASKFLOW_STORE": url, "TASKFLOW_BROKER": url}
    )
    with redis.Redis.from_url(shop.env["TASKFLOW_STORE"]):
        worker.wait_for_line("is ready")
    worker.stop()
    lines = [orjson.loads(line) for line in worker.stderr.splitlines()]
    assert {"time", "level", "logger", "message", "pid"} <= lines[0].keys()
    assert "default:***@" in worker.stderr
    assert "s3cret" not in worker.stderr


async def test_a_queue_that_no_worker_serves_is_told_until_one_does(shop: Shop) -> None:
    """S10.5"""

    async def why(run_id: str) -> str | None:
        session = StoreSession(shop.env["TASKFLOW_STORE"], shop.env["TASKFLOW_NAMESPACE"])
        try:
            return (await find_run(await session.store(), run_id, Moment(time.time_ns() // 1_000_000))).why
        finally:
            await session.close()

    worker = shop.start_ready("-Q", "default,other")
    run = await shop.app.ainvoke("shop/post")
    assert await why(run.id) == 'queued: no worker serves queue "mail"'
    mail = shop.start_ready("-Q", "mail")
    assert await run.aresult("15s") == "posted"
    mail.stop()
    run = await shop.app.ainvoke("shop/post")
    assert await why(run.id) == 'queued: no worker serves queue "mail"'
    worker.stop()
    assert await why(run.id) == 'queued: no worker serves queue "mail" (none gives a sign of life)'


async def test_events_that_a_killed_child_had_received_go_on_within_2_s(shop: Shop) -> None:
    """S9.3: the child stands still, so what it received is in its socket, and not routed."""
    worker = shop.start_ready()
    (child,) = worker.children()
    topology = Topology(shop.app.config.namespace)
    stream = StreamKeys(topology.key_prefix).stream(topology.events_queue("shop").name)
    with redis.Redis.from_url(shop.env["TASKFLOW_BROKER"]) as client:
        wait_until(
            lambda: [
                each for each in client.client_list() if each["cmd"] == "xreadgroup" and "b" in each["flags"]
            ],
            what="the child to wait for messages",
        )
        os.kill(child, signal.SIGSTOP)
        (event_id,) = await shop.app.asend("shop/thing.came")
        wait_until(
            lambda: client.xpending(stream, "q")["pending"] == 1,
            what="the child to receive it",
        )
    os.kill(child, signal.SIGKILL)
    killed_s = time.monotonic()
    run = shop.app.run(run_id_for(event_id, "shop/take"))
    while await run_is_missing(run):
        assert time.monotonic() - killed_s < 2
    assert await run.aresult("2s") == "taken"
    assert time.monotonic() - killed_s < 2
    assert "gave back 1 messages" in worker.stderr


async def run_is_missing(run: Run) -> bool:
    try:
        await run.astatus()
    except RunNotFound:
        await asyncio.sleep(0.005)
        return True
    return False


# Failing to start


@pytest.mark.parametrize(
    ("module", "target", "words"),
    [
        (
            "import no_such_module_at_all\n",
            "broken",
            [
                "importing the module 'broken' failed:",
                'broken.py", line 1, in <module>\n    import no_such_module_at_all',
                "ModuleNotFoundError: No module named 'no_such_module_at_all'",
            ],
        ),
        (
            "def f(:\n",
            "broken:app",
            ["importing the module 'broken' failed:", 'broken.py", line 1', "SyntaxError: invalid syntax"],
        ),
        (
            "app = 7\n",
            "broken:apq",
            [
                "the module 'broken' has no 'apq'; it has no TaskFlow at all: define one there, app = TaskFlow('broken')."
            ],
        ),
        ("", "nowhere:app", ["there is no module 'nowhere' in ", "set PYTHONPATH to that folder."]),
    ],
)
def test_app_that_cant_be_loaded_ends_the_worker_with_the_users_own_traceback(
    shop: Shop, module: str, target: str, words: list[str]
) -> None:
    (shop.folder / "broken.py").write_text(module)
    worker = shop.start("--processes", "2", target=target)
    assert worker.wait(deadline_s=10) == 1
    assert worker.stderr.startswith("taskflow: the worker can't start: ")
    for text in words:
        assert text in worker.stderr
    assert "importlib" not in worker.stderr
    assert "taskflow/loading.py" not in worker.stderr


def test_broker_that_is_down_is_named_with_its_address_and_the_way_out(shop: Shop) -> None:
    port = free_port()
    worker = shop.start("--processes", "1", env={"TASKFLOW_BROKER": f"redis://me:s3cret@127.0.0.1:{port}/0"})
    assert worker.wait(deadline_s=10) == 1
    assert (
        f"taskflow: the worker can't start: the broker at redis://me:***@127.0.0.1:{port}/0 can't be reached: "
        in worker.stderr
    )
    assert "Connection refused" in worker.stderr
    assert (
        "\n  Does it run there, and may this user in? TASKFLOW_BROKER or TaskFlow(broker=...)"
        in worker.stderr
    )
    assert "s3cret" not in worker.stderr


def test_store_that_is_down_is_named_in_one_message(shop: Shop) -> None:
    port = free_port()
    worker = shop.start("--processes", "1", env={"TASKFLOW_STORE": f"redis://:s3cret@127.0.0.1:{port}/0"})
    assert worker.wait(deadline_s=10) == 1
    (line,) = worker.stderr.splitlines()
    assert line.startswith(
        f"taskflow: the worker can't start: the store at 127.0.0.1:{port}/0 can't be reached: "
    )
    assert line.endswith(
        "Is Redis or Valkey running there? Set TASKFLOW_STORE or TaskFlow(store=...) to its URL."
    )


def test_store_with_data_of_another_major_version_is_refused_and_left_alone(
    shop: Shop, namespace: str
) -> None:
    with redis.Redis.from_url(shop.env["TASKFLOW_STORE"]) as client:
        client.set(f"{namespace}:{{0}}:version", "99")
        worker = shop.start("--processes", "1", "-B")
        assert worker.wait(deadline_s=10) == 1
        assert client.keys(f"{namespace}:*") == [f"{namespace}:{{0}}:version".encode()]
    assert (
        f"holds data of taskflow's format 99, but this version reads format {DATA_VERSION}." in worker.stderr
    )
    assert "or another TASKFLOW_NAMESPACE." in worker.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["worker"], "Missing option '-A'"),
        (["worker", "-A", "shop", "--drain-timeout", "soon"], "duration can't be read: 'soon'"),
        (["worker", "-A", "shop", "-Q", "a b"], "a queue's name must have"),
        (["worker", "-A", "shop", "--processes", "0"], "0 is not in the range"),
        (["wroker"], "there is no command 'wroker'; did you mean 'worker'?"),
    ],
)
def test_wrong_usage_ends_with_exit_code_2(tmp_path: Path, arguments: list[str], words: str) -> None:
    with TaskflowProcess(*arguments, cwd=tmp_path) as process:
        assert process.wait() == 2
        assert words in process.stderr


# Ending and dying


async def test_sigterm_lets_the_running_step_end_and_hands_the_rest_of_the_run_over(shop: Shop) -> None:
    worker = shop.start_ready()
    run = await shop.app.ainvoke("shop/build")
    wait_until(lambda: shop.journal("second"), what="the step")
    worker.send_signal(signal.SIGTERM)
    worker.wait_for_line("SIGTERM: draining")
    shop.finish()
    assert worker.wait() == 0
    assert shop.journal("third") == []
    shop.start_ready()
    assert await run.aresult("15s") == "built"
    assert [len(shop.journal(step)) for step in ("first", "second", "third")] == [1, 1, 1]


@pytest.mark.parametrize("signals", [[signal.SIGQUIT], [signal.SIGTERM, signal.SIGTERM]])
async def test_sigquit_or_a_second_sigterm_hands_back_at_once(
    shop: Shop, signals: list[signal.Signals]
) -> None:
    worker = shop.start_ready()
    run = await shop.app.ainvoke("shop/build")
    wait_until(lambda: shop.journal("second"), what="the step")
    for number in signals:
        worker.send_signal(number)
        if number is signal.SIGTERM:
            worker.wait_for_line("SIGTERM: draining")
    assert worker.wait() == 0
    assert "did not end in time" not in worker.stderr
    shop.finish()
    shop.start_ready()
    assert await run.aresult("15s") == "built"
    assert [len(shop.journal(step)) for step in ("first", "second", "third")] == [1, 2, 1]


async def test_step_that_outlasts_the_drain_timeout_is_handed_back(shop: Shop) -> None:
    worker = shop.start_ready("--drain-timeout", "100ms")
    run = await shop.app.ainvoke("shop/build")
    wait_until(lambda: shop.journal("second"), what="the step")
    assert worker.stop(deadline_s=5) == 0
    assert "1 runs did not reach the end of a step within 0.1 s" in worker.stderr
    assert await run.astatus() == "queued"


async def test_run_of_a_killed_child_goes_on_elsewhere_within_2_s_and_repeats_no_finished_step(
    shop: Shop,
) -> None:
    worker = shop.start_ready(processes=2)
    wait_until(lambda: len(worker.children()) == 2, what="two children")
    run = await shop.app.ainvoke("shop/build")
    (pid,) = wait_until(lambda: shop.journal("second"), what="the step")
    os.kill(pid, signal.SIGKILL)
    killed_s = time.monotonic()
    shop.finish()
    assert await run.aresult("15s") == "built"
    assert time.monotonic() - killed_s < 2.0
    assert [len(shop.journal(step)) for step in ("first", "second", "third")] == [1, 2, 1]
    assert shop.journal("second")[1] != pid
    worker.wait_for_line(r"handed back 1 runs of child .*killed by signal 9")


async def test_children_end_and_hand_back_when_the_supervisor_is_killed(shop: Shop) -> None:
    worker = shop.start_ready("-B", processes=2)
    children = wait_until(
        lambda: pids if len(pids := worker.children()) == 3 else None, what="two children, a beat"
    )
    run = await shop.app.ainvoke("shop/build")
    wait_until(lambda: shop.journal("second"), what="the step")
    worker.kill()
    wait_until(lambda: not any(is_alive(pid) for pid in children), what="their end", deadline_s=2.0)
    assert await run.astatus() == "queued"


async def test_beat_inside_a_worker_wakes_runs_and_comes_back_after_kill_9(shop: Shop) -> None:
    worker = shop.start_ready("-B")
    worker.wait_for_line("this beat leads")
    assert await (await shop.app.ainvoke("shop/nap")).aresult("15s") == "rested"
    beat = worker.children()[-1]
    os.kill(beat, signal.SIGKILL)
    worker.wait_for_line(r"ERROR +taskflow.worker: beat .* died after .*killed by signal 9")
    run = await shop.app.ainvoke("shop/nap")
    assert await run.aresult("20s") == "rested"  # the dead beat's lead ends after 8 s (S8.1)
    assert beat not in worker.children()
    assert worker.stop() == 0


async def test_sighup_replaces_the_children_with_the_code_as_it_is_now(shop: Shop) -> None:
    worker = shop.start_ready("-B")
    old = wait_until(lambda: pids if len(pids := worker.children()) == 2 else None, what="a child and a beat")
    (shop.folder / "shop.py").write_text(SHOP.replace('return {"pid": os.getpid()}', 'return "the new code"'))
    worker.send_signal(signal.SIGHUP)
    worker.wait_for_line("rolling restart is done")
    wait_until(lambda: not set(old) & set(worker.children()), what="the end of the old ones")
    assert await (await shop.app.ainvoke("shop/greet")).aresult("15s") == "the new code"
    assert worker.stop() == 0
