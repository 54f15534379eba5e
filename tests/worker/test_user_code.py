"""What user code does to a worker's process, and what the worker does about it: real workers, real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskflow import TaskFlow
from tests.processes import REPOSITORY, TaskflowProcess, clean_environment, wait_until

APP = """
import ctypes, logging, multiprocessing, os, signal, subprocess, sys, time
from pathlib import Path
from taskflow import TaskFlow

app = TaskFlow("shop")
here = Path(__file__).parent

def end_a_process():
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join()
    return process.exitcode

async def end_a_process_on_the_loop():
    return end_a_process()

def ask_a_command():
    code = "import signal; print(signal.getsignal(signal.SIGINT).__name__, signal.getsignal(signal.SIGHUP).name)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()

def print_and_die():
    if not (here / "died").exists():
        (here / "died").touch()
        print("these are its last words")
        os.kill(os.getpid(), signal.SIGKILL)

def stand_still():
    time.sleep(1.5)

@app.function(trigger="shop/thread")
async def thread(ctx):
    note(await ctx.step.run("fork", end_a_process))

@app.function(trigger="shop/loop")
async def loop(ctx):
    note(await ctx.step.run("fork", end_a_process_on_the_loop))

@app.function(trigger="shop/command")
async def command(ctx):
    note(await ctx.step.run("ask", ask_a_command))

@app.function(trigger="shop/die")
async def die(ctx):
    await ctx.step.run("die", print_and_die)
    note("lives")

@app.function(trigger="shop/block")
async def block(ctx):
    stand_still()
    note("unblocked")

@app.function(trigger="shop/hello")
async def hello(ctx):
    ctx.logger.info("hello from the run")
    note("hello")

def note(text):
    with (here / "notes").open("a") as file:
        file.write(f"{text}\\n")
"""


class Shop:
    """A folder with the app, its notes, and a sender."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.env = {"TASKFLOW_BROKER": url, "TASKFLOW_STORE": url}
        self.sender = TaskFlow("shop", broker=url, store=url)
        self.write(APP)

    def write(self, text: str) -> None:
        (self.folder / "shop.py").write_text(text)

    def worker(self, *arguments: str, **env: str) -> TaskflowProcess:
        command = ("worker", "-A", "shop:app", "--processes", "1", *arguments)
        return TaskflowProcess(*command, cwd=self.folder, env={**self.env, **env})

    def send(self, name: str) -> None:
        self.sender.send(f"shop/{name}")

    def wait_for_notes(self, *wanted: str) -> None:
        path = self.folder / "notes"
        wait_until(
            lambda: path.exists() and path.read_text().splitlines() == [*wanted], what=f"the notes {wanted}"
        )


@pytest.fixture
def shop(tmp_path: Path, valkey_url: str) -> Iterator[Shop]:
    shop = Shop(tmp_path, valkey_url)
    yield shop
    shop.sender.close()


@pytest.mark.parametrize("where", ["thread", "loop"])
def test_a_signal_to_a_process_that_a_step_forked_ends_that_process_and_nothing_else(
    shop: Shop, where: str
) -> None:
    with shop.worker() as worker:
        shop.send(where)
        shop.wait_for_notes(str(-signal.SIGTERM))
        shop.send("hello")
        shop.wait_for_notes(str(-signal.SIGTERM), "hello")
        assert "drain" not in worker.stderr
        assert worker.stop() == 0


def test_a_command_that_a_step_starts_heeds_ctrl_c_and_a_hang_up(shop: Shop) -> None:
    with shop.worker() as worker:
        shop.send("command")
        shop.wait_for_notes("default_int_handler SIG_DFL")
        assert worker.stop() == 0


def test_what_was_printed_before_a_kill_is_not_lost_in_a_pipe(shop: Shop) -> None:
    with shop.worker(PYTHONUNBUFFERED="") as worker:
        shop.send("die")
        shop.wait_for_notes("lives")
        assert "these are its last words" in worker.stdout
        assert worker.stop() == 0


def test_a_blocked_loop_is_told_with_the_stack_of_what_blocks_it(shop: Shop) -> None:
    with shop.worker("--blocked-after", "400ms") as worker:
        shop.send("block")
        worker.wait_for_line("event loop blocked for 0.4")
        worker.wait_for_line("in stand_still")
        shop.wait_for_notes("unblocked")
        worker.wait_for_line("the event loop goes on, after some 1.")
        assert worker.stderr.count("event loop blocked") == 1
        assert "taskflow/engine" not in worker.stderr
        # The first frame is the user's: those of the program that runs the loop help nobody.
        stack = worker.stderr.partition("It stands here:")[2]
        assert "in block" in stack.splitlines()[1]
        assert "click" not in stack and "runpy" not in stack
        assert worker.stop() == 0


def test_a_log_set_up_that_disables_what_exists_does_not_silence_the_runs(shop: Shop) -> None:
    config = {
        "version": 1,
        "handlers": {"err": {"class": "logging.StreamHandler"}},
        "root": {"level": "INFO", "handlers": ["err"]},
    }
    shop.write(f"import logging.config\nlogging.config.dictConfig({config!r})\n{APP}")
    with shop.worker() as worker:
        shop.send("hello")
        worker.wait_for_line("hello from the run")
        assert worker.stop() == 0


def test_a_worker_without_functions_says_so_and_leaves_the_events_to_others(shop: Shop) -> None:
    shop.write('from taskflow import TaskFlow\napp = TaskFlow("shop")\n')
    shop.send("hello")
    with shop.worker() as worker:
        worker.wait_for_line("app shop has no functions, so this worker takes no events")
        shop.write(APP)
        with shop.worker() as other:
            shop.wait_for_notes("hello")
            assert other.stop() == 0
        assert worker.stop() == 0


def test_a_process_that_gevent_has_patched_is_refused(shop: Shop) -> None:
    """With a stand-in for gevent, which is not installed here: the worker asks it what gevent answers."""
    (shop.folder / "gevent").mkdir()
    (shop.folder / "gevent" / "__init__.py").touch()
    (shop.folder / "gevent" / "monkey.py").write_text("def is_module_patched(name): return True\n")
    shop.write(f"import gevent.monkey\n{APP}")
    with shop.worker() as worker:
        assert worker.wait() == 1
        assert "the app's code has the standard library patched by gevent" in worker.stderr


def test_an_app_can_be_made_by_a_factory(shop: Shop) -> None:
    shop.write(f"{APP}\ndef create_app():\n    return app\n")
    command = ("worker", "-A", "shop:create_app", "--processes", "1")
    with TaskflowProcess(*command, cwd=shop.folder, env=shop.env) as worker:
        shop.send("hello")
        shop.wait_for_notes("hello")
        assert worker.stop() == 0


def test_a_failed_start_tells_its_reason_and_nothing_of_its_other_processes(shop: Shop) -> None:
    shop.write("import nowhere\n")
    command = ("worker", "-A", "shop:app", "--processes", "4")
    with TaskflowProcess(*command, cwd=shop.folder, env=shop.env) as worker:
        assert worker.wait() == 1
        assert worker.stderr.count("the worker can't start") == 1
        assert "killed by signal" not in worker.stderr


ORPHANS = """
import ctypes, os, time
from taskflow.worker.supervisor.child_process import reap_orphans

PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0  # as process 1 of a container is
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    orphan = os.fork()
    if orphan:
        os.write(writer, str(orphan).encode())
    os._exit(0)
orphan = int(os.read(reader, 20))
give_up_s = time.monotonic() + 10
while os.path.exists(f"/proc/{orphan}"):
    assert time.monotonic() < give_up_s, "the orphan is a zombie"
    # Whoever dies first is in the way of the other: the child, too, is reaped where it is not known.
    reap_orphans(set())
    time.sleep(0.005)
known = os.fork()
if known == 0:
    os._exit(7)
reap_orphans({known})
assert os.waitstatus_to_exitcode(os.waitpid(known, 0)[1]) == 7
print("reaped")
"""


def test_orphans_that_a_container_leaves_to_process_1_are_reaped_and_children_are_not() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORPHANS],
        env=clean_environment({}),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == "reaped\n", done.stderr
