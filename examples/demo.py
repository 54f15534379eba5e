"""The demo: two workflows on real processes, a worker that is killed on the way, and the timeline of what came of it.

    make demo        # or: python -m examples.demo

It starts an embedded Valkey, a beat and two workers, sends real events, and prints every command as you could type it.
It stops what it started, and ends with 1 if a run does not complete.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, TypeVar

from taskflow.dev.valkey import EmbeddedValkey

T = TypeVar("T")

PATIENCE_S = 30
ORDER = {"order_id": "A-1", "item": "oolong", "cents": 1250, "email": "ada@example.org"}


class DemoFailed(Exception):
    """Something did not happen in time, or a command failed."""


class Stage:
    """The processes of the demo, and the folder in which they keep everything."""

    def __init__(self, folder: Path, store_url: str) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "TASKFLOW_BROKER": store_url,
            "TASKFLOW_STORE": store_url,
            "SHOP_FOLDER": str(folder / "shop"),
            "TABLES_FOLDER": str(folder / "tables"),
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `taskflow ...` in the background; its log goes to a file."""
        show(arguments, "&")
        with (self.folder / f"{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(command_line(arguments), env=self.environment, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def run(self, *arguments: str) -> str:
        """Run `taskflow ...` and return what it prints."""
        done = subprocess.run(
            command_line(arguments), env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )  # fmt: skip
        if done.returncode != 0:
            raise DemoFailed(f"taskflow {shlex.join(arguments)}: exit code {done.returncode}\n{done.stderr}")
        return done.stdout

    def ask(self, *arguments: str) -> Any:
        """What `taskflow ... --json` says."""
        return json.loads(self.run(*arguments, "--json"))

    def stop(self) -> None:
        """SIGTERM to each, the youngest first; SIGKILL to who does not listen."""
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def check(self) -> None:
        """Whoever was started should still run, but for the worker that the demo kills."""
        for process in self.processes:
            if process.poll() not in (None, -signal.SIGKILL):
                raise DemoFailed(f"a process ended with exit code {process.returncode}: {process.args!r}")

    def print_logs(self) -> None:
        for log in sorted(self.folder.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)


def play(stage: Stage) -> None:
    """The demo itself."""
    stage.start("beat")
    worker = stage.start("worker", "-A", "examples.order", "--processes", "1")
    stage.start("worker", "-A", "examples.fan_out", "--processes", "1")
    wait_until(stage, lambda: len(stage.ask("functions")) >= 4, "both workers register their functions")

    tell("An order comes in. The bank's first answer gets lost, so the charge is tried again.")
    send(stage, "shop", "shop/order.created", ORDER)
    tell("Somebody finds a table: the machine's time zones. One event a row, a step for each cell.")
    send(stage, "tables", "table/found")

    (order,) = wait_until(stage, lambda: runs_of(stage, "shop/fulfil-order"), "the order's run")
    wait_until(stage, lambda: is_waiting_for_parcel(stage, order), "the order waits for its parcel")
    tell("The order waits for its parcel. Now kill -9 the shop's only worker ...")
    print(f"$ kill -9 {worker.pid}")
    worker.kill()
    worker.wait()
    tell("... and let the parcel leave while nobody is there. The next worker finds out.")
    send(stage, "shop", "shop/order.shipped", {"order_id": ORDER["order_id"]})
    stage.start("worker", "-A", "examples.order", "--processes", "1")
    await_result(stage, order)

    (summary,) = wait_until(stage, lambda: runs_of(stage, "tables/summarise"), "the summary's run")
    await_result(stage, summary)
    check_all_completed(stage)

    tell("What came of the order:")
    show(("runs", "show", order))
    print(stage.run("runs", "show", order))


def send(stage: Stage, app_id: str, name: str, data: dict[str, Any] | None = None) -> None:
    arguments = ("send", name, "--app", app_id, *(("--data", json.dumps(data)) if data else ()))
    show(arguments)
    print(stage.run(*arguments), end="")


def await_result(stage: Stage, run_id: str) -> None:
    """Wait for the run and print its result; DemoFailed unless it completed."""
    arguments = ("runs", "wait", run_id, "--timeout", f"{PATIENCE_S - 5}s")
    show(arguments)
    print(stage.run(*arguments), end="")


def runs_of(stage: Stage, function_id: str) -> list[str]:
    return [run["run_id"] for run in stage.ask("runs", "list", "--function", function_id)]


def is_waiting_for_parcel(stage: Stage, run_id: str) -> bool:
    steps = stage.ask("runs", "show", run_id)["steps"]
    return any(step["key"] == "parcel leaves" and step["state"] == "wait" for step in steps)


def check_all_completed(stage: Stage) -> None:
    runs = stage.ask("runs", "list", "--limit", "10000")
    unfinished = [run for run in runs if run["status"] != "completed"]
    if unfinished:
        raise DemoFailed(f"{len(unfinished)} runs did not complete, the first is {unfinished[0]}")
    tell(
        f"All {len(runs)} runs have completed: one for the order, and one for each row of the table, with two around them."
    )


def wait_until(stage: Stage, condition: Callable[[], T], what: str) -> T:
    """What `condition` returns once that is true; DemoFailed after PATIENCE_S."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not (result := condition()):
        if time.monotonic() > give_up_s:
            raise DemoFailed(f"waited {PATIENCE_S} s in vain: {what}")
        stage.check()
        time.sleep(0.1)
    return result


def command_line(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "taskflow", *arguments]


def show(arguments: tuple[str, ...], suffix: str = "") -> None:
    print(f"$ taskflow {shlex.join(arguments)} {suffix}".rstrip(), flush=True)


def tell(text: str) -> None:
    print(f"\n# {text}", flush=True)


def on_sigterm(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def main() -> int:
    """The exit code: 0 when every run has completed."""
    signal.signal(signal.SIGTERM, on_sigterm)  # so that what was started is stopped then, too
    started_s = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="taskflow-demo-")))
        valkey = stack.enter_context(EmbeddedValkey(folder / "valkey"))
        print(f"# An embedded Valkey listens on {valkey.url}")
        stage = Stage(folder, valkey.url)
        stack.callback(stage.stop)
        try:
            play(stage)
        except (DemoFailed, subprocess.TimeoutExpired) as error:
            stage.print_logs()
            print(f"the demo failed: {error}", file=sys.stderr)
            return 1
    print(f"# Everything is stopped, after {time.monotonic() - started_s:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
