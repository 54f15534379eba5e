"""Real workers for the tests: a supervisor process and its forked children."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import orjson
import pytest

from tests.worker.journal import Entry, Journal

DEADLINE_S = 10.0
REPOSITORY = Path(__file__).parents[2]

T = TypeVar("T")


def wait_until(condition: Callable[[], T | None], *, description: str, deadline_s: float = DEADLINE_S) -> T:
    """Wait until `condition` returns something true, and return it; fail after `deadline_s`."""
    give_up_s = time.monotonic() + deadline_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > give_up_s:
            raise AssertionError(f"waited {deadline_s:g} s in vain: {description}")
        time.sleep(0.005)


class WorkerUnderTest:
    """One worker under test, its folder of switches and its journal."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self.folder = folder
        self.journal = Journal(folder)
        self._log = folder / "stderr"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.worker.worker_script",
                    str(folder),
                    orjson.dumps(options).decode(),
                ],
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
                process_group=0,  # so that a test can send Ctrl-C to the group
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """What the worker has written to stderr so far."""
        return self._log.read_text()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def switch(self, name: str, text: str = "") -> None:
        (self.folder / name).write_text(text)

    def unswitch(self, name: str) -> None:
        (self.folder / name).unlink()

    def wait_exit(self, *, deadline_s: float = DEADLINE_S) -> int:
        """The exit code of the supervisor; a negative one is a signal."""
        return self._process.wait(deadline_s)

    def wait_entries(self, what: str, count: int = 1, *, child_id: str = "") -> list[Entry]:
        """Wait for `count` entries of a kind."""

        def enough() -> list[Entry] | None:
            entries = self.journal.read(what, child_id=child_id)
            return entries if len(entries) >= count else None

        return wait_until(
            enough, description=f"{count} times {what!r} of {child_id or 'any child'}\n{self.log}"
        )

    def wait_log(self, text: str) -> None:
        wait_until(lambda: text in self.log, description=f"log line {text!r}\n{self.log}")

    def living_children(self) -> list[int]:
        """Pids of the children that have started and not ended."""
        return [pid for pid in {entry.pid for entry in self.journal.read("start")} if is_alive(pid)]

    def end(self) -> list[int]:
        """Kill what is left; the pids of the children that outlived a supervisor that had ended."""
        had_ended = self._process.poll() is not None
        left = self.living_children()
        self._process.kill()
        self._process.wait()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.living_children(), description="end of all children")
        return left if had_ended else []


def is_alive(pid: int) -> bool:
    """Whether the process lives; a zombie doesn't, and an orphan may stay one until init finds the time."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if sys.platform != "linux":
        return True
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


class StartWorker(Protocol):
    def __call__(self, *, switches: dict[str, str] | None = None, **options: object) -> WorkerUnderTest: ...


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    """Starts a worker with some SupervisorOptions; checks that no child outlives its supervisor."""
    workers: list[WorkerUnderTest] = []

    def start(*, switches: dict[str, str] | None = None, **options: object) -> WorkerUnderTest:
        folder = tmp_path / f"worker-{len(workers)}"
        folder.mkdir()
        for name, text in (switches or {}).items():
            (folder / name).write_text(text)
        workers.append(WorkerUnderTest(folder, options))
        return workers[-1]

    yield start
    leftovers = [pid for worker in workers for pid in worker.end()]
    assert leftovers == []


def kill(entry: Entry, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to the process that wrote the entry."""
    os.kill(entry.pid, number)
