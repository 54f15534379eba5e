"""Real `taskflow` processes for the tests: started, waited for, ended, and nothing left behind.

    with TaskflowProcess("worker", "-A", "shop:app", cwd=tmp_path, env={"TASKFLOW_BROKER": server.url}) as worker:
        worker.wait_for_line("is ready")
        worker.children()             # pids
        assert worker.stop() == 0     # SIGTERM, and the exit code

What the process writes to stderr is in `stderr`, to stdout in `stdout`, both also while it runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

REPOSITORY = Path(__file__).parents[1]
DEADLINE_S = 15.0

T = TypeVar("T")


def wait_until(condition: Callable[[], T | None], *, what: str, deadline_s: float = DEADLINE_S) -> T:
    """Wait until `condition` returns something true, and return it; AssertionError after `deadline_s`."""
    give_up_s = time.monotonic() + deadline_s
    while not (result := condition()):
        if time.monotonic() > give_up_s:
            raise AssertionError(f"waited {deadline_s:g} s in vain for: {what}")
        time.sleep(0.005)
    return result


def heed_signals() -> None:
    """Undo what a shell does to its background jobs, this test run perhaps among them: they ignore Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


class TaskflowProcess:
    """`taskflow <arguments>` as a process of its own, run by this interpreter in `cwd`.

    `env` is added to this process's environment, from which TASKFLOW_* variables are taken out first.
    """

    def __init__(self, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self.arguments = arguments
        self.seen: set[int] = set()  # every child that was ever found
        self._folder = tempfile.TemporaryDirectory(prefix="taskflow-test-")
        self._stdout, self._stderr = (Path(self._folder.name) / name for name in ("stdout", "stderr"))
        setpriv = shutil.which("setpriv")  # Linux only: the kernel kills it when the test run is killed
        guard = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                # -P: as with the installed command, the current folder is not on sys.path by itself.
                [*guard, sys.executable, "-P", "-m", "taskflow", *arguments],
                cwd=cwd,
                env=clean_environment(env or {}),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                process_group=0,  # so that a test can send Ctrl-C to the group
                preexec_fn=heed_signals,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdout(self) -> str:
        """What it has written to stdout so far."""
        return self._stdout.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        """What it has written to stderr so far; logs go there."""
        return self._stderr.read_text(errors="replace")

    def wait_for_line(self, pattern: str, *, count: int = 1, deadline_s: float = DEADLINE_S) -> str:
        """Wait until `count` lines of stderr or stdout match the regular expression; return the last of them."""

        def find() -> list[str] | None:
            lines = [line for line in (self.stderr + self.stdout).splitlines() if re.search(pattern, line)]
            if len(lines) < count and self.process.poll() is not None:
                raise AssertionError(
                    f"it ended by {self.process.returncode} without {pattern!r}:\n{self.stderr}"
                )
            return lines if len(lines) >= count else None

        try:
            return wait_until(find, what=f"line {pattern!r}", deadline_s=deadline_s)[count - 1]
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.stderr}{self.stdout}") from None

    def children(self) -> list[int]:
        """The pids of its living child processes, oldest first."""
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pids = sorted(int(pid) for pid in path.read_text().split())
            self.seen.update(pids)
            return [pid for pid in pids if is_alive(pid)]
        return []

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, *, deadline_s: float = DEADLINE_S) -> int:
        """The exit code; a negative one is a signal."""
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {deadline_s:g} s:\n{self.stderr}") from None

    def stop(self, number: signal.Signals = signal.SIGTERM, *, deadline_s: float = DEADLINE_S) -> int:
        """Ask it to end, and return the exit code."""
        self.children()
        if self.process.poll() is None:
            self.send_signal(number)
        return self.wait(deadline_s=deadline_s)

    def kill(self) -> None:
        """SIGKILL to the process alone: its children notice by themselves."""
        self.children()
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill what is left of it and its children, and remove the output."""
        self.kill()
        for pid in self.seen:
            with contextlib.suppress(ProcessLookupError):
                if is_alive(pid) and is_taskflow(pid):
                    os.kill(pid, signal.SIGKILL)
        if error is not None:
            sys.stderr.write(f"--- {' '.join(self.arguments)}\n{self.stderr}")
        self._folder.cleanup()


def clean_environment(env: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASKFLOW_")}
    return {**inherited, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", **env}


def is_alive(pid: int) -> bool:
    """Whether the process lives; a zombie doesn't."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def is_taskflow(pid: int) -> bool:
    """Whether it is still the process that we meant: pids come back."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return b"taskflow" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
