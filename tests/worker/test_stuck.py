"""Code that never ends, in real workers: its process is replaced, and no other run is blamed. Rules S6.2, S6.3, S9.6, S9.9."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from taskflow import TaskFlow
from tests.processes import TaskflowProcess, wait_until

APP = """
import asyncio, time
from pathlib import Path
from taskflow import Cancel, TaskFlow, Timeouts

app = TaskFlow("shop", max_crashes=1)
folder = Path(__file__).parent

def note(text):
    with (folder / "notes").open("a") as file:
        file.write(f"{text}\\n")

def sleep_on():
    note("sleeps")
    while not (folder / "finish").exists():
        time.sleep(0.01)

async def wait_on():
    note("waits")
    while not (folder / "finish").exists():
        await asyncio.sleep(0.01)

@app.function(trigger="nap", cancel=[Cancel("stop")])
async def nap(ctx, step):
    await step.run("sleep", sleep_on)

@app.function(trigger="nap in a handler", cancel=[Cancel("stop")])
def nap_in_handler(ctx):
    sleep_on()

@app.function(trigger="limited nap", timeouts=Timeouts(step="200ms"), retries=0)
def limited_nap(ctx, step):
    step.run("sleep", sleep_on)

@app.function(trigger="wait")
async def bystander(ctx, step):
    await step.run("wait", wait_on)
    note("waited")

@app.function(trigger="spin")
async def spin(ctx, step):
    while True:
        pass

@app.function(trigger="spin in a step")
async def spin_in_step(ctx, step):
    async def spin():
        while True:
            pass
    await step.run("spin", spin)

@app.function(trigger="hello")
async def hello(ctx):
    note("hello")

@app.function(trigger="taskflow/function.failed")
async def failed(ctx):
    note(f"{ctx.event.data['function_id']} {ctx.event.data['error']['name']}")

@app.function(trigger="taskflow/function.cancelled")
async def cancelled(ctx):
    note(f"{ctx.event.data['function_id']} cancelled")
"""


class Shop:
    """A folder with the app, its notes, and a sender."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.client = redis.Redis.from_url(url, decode_responses=True)
        self.env = {"TASKFLOW_BROKER": url, "TASKFLOW_STORE": url}
        self.sender = TaskFlow("shop", broker=url, store=url)
        (folder / "shop.py").write_text(APP)

    def worker(self, *arguments: str) -> TaskflowProcess:
        command = ("worker", "-A", "shop:app", "--processes", "1", "-B", *arguments)
        return TaskflowProcess(*command, cwd=self.folder, env=self.env)

    @property
    def notes(self) -> list[str]:
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for_note(self, note: str, *, times: int = 1) -> None:
        wait_until(lambda: self.notes.count(note) >= times, what=f"the note {note!r}, {times} times")

    def crashes(self) -> dict[str, int]:
        """By function: the crashes that the store counts for its runs."""
        found = {}
        for key in self.client.scan_iter("tf*run:*"):
            function, crashes = self.client.hmget(key, "function", "crashes")
            found[str(function)] = int(crashes or 0)
        return found

    def finish(self) -> None:
        (self.folder / "finish").touch()


@pytest.fixture
def shop(tmp_path: Path, valkey_url: str) -> Iterator[Shop]:
    shop = Shop(tmp_path, valkey_url)
    yield shop
    shop.sender.close()
    shop.client.close()


@pytest.mark.parametrize("event", ["nap", "nap in a handler"])
def test_a_cancelled_run_ends_though_its_thread_goes_on_and_the_process_is_replaced(
    shop: Shop, event: str
) -> None:
    with shop.worker("--drain-timeout", "1s") as worker:
        shop.sender.send(event)
        shop.wait_for_note("sleeps")
        shop.sender.send("wait")
        shop.wait_for_note("waits")
        shop.sender.send("stop")
        function = "shop/nap" if event == "nap" else "shop/nap-in-handler"
        shop.wait_for_note(f"{function} cancelled")
        worker.wait_for_line(f"recycled, code of {function} blocks a thread, though its run was cancelled")
        # The other run was handed back by the process that had to go, and goes on in the new one.
        shop.wait_for_note("waits", times=2)
        assert set(shop.crashes().values()) == {0}
        shop.finish()
        shop.wait_for_note("waited")
        assert "died" not in worker.stderr
        assert worker.stop() == 0


def test_a_step_past_its_time_limit_is_abandoned_and_the_process_is_replaced(shop: Shop) -> None:
    with shop.worker("--drain-timeout", "1s") as worker:
        shop.sender.send("limited nap")
        shop.wait_for_note("shop/limited-nap StepTimeout")
        worker.wait_for_line("recycled, step 'sleep' blocks a thread for which nobody waits any more")
        shop.sender.send("hello")
        shop.wait_for_note("hello")
        assert set(shop.crashes().values()) == {0}
        assert worker.stop() == 0


def test_a_thread_that_outlasts_the_drain_ends_with_its_process_and_the_step_begins_elsewhere(
    shop: Shop,
) -> None:
    with shop.worker("--drain-timeout", "500ms") as worker:
        shop.sender.send("nap")
        shop.wait_for_note("sleeps")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert shop.crashes() == {"shop/nap": 0}
    with shop.worker() as worker:
        shop.wait_for_note("sleeps", times=2)
        shop.finish()
        assert worker.stop() == 0


@pytest.mark.parametrize("event", ["spin", "spin in a step"])
def test_a_loop_that_stands_still_is_replaced_and_only_the_run_that_holds_it_is_blamed(
    shop: Shop, event: str
) -> None:
    with shop.worker("--blocked-after", "200ms", "--replace-after", "1s") as worker:
        shop.sender.send("wait")
        shop.wait_for_note("waits")
        shop.sender.send(event)
        worker.wait_for_line("its event loop stood still for 1 s, by code of run ")
        function = "shop/spin" if event == "spin" else "shop/spin-in-step"
        shop.wait_for_note(f"{function} WorkerLost")
        shop.wait_for_note("waits", times=2)
        crashes = shop.crashes()
        assert (crashes[function], crashes["shop/bystander"]) == (1, 0)
        shop.finish()
        shop.wait_for_note("waited")
        assert worker.stop() == 0
