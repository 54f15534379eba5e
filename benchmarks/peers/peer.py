"""What a peer is, and how it is run: a fresh store, the processes of its deployment, a client, and a folder for them.

with Site() as site, peer.start(site) as deployment, site.client(peer) as client:
    client.call("noop", 0, 100)
    site.marks.missing(Kind.NOOP, range(100))
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.peers.client import Answer, Request
from benchmarks.peers.environment import Environment
from benchmarks.peers.marks import VARIABLE, Marks
from tests.processes import clean_environment
from tests.servers import ValkeyServer, free_port, spawn

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """How much of each work a peer gets; it is the rates that are compared, and a slow peer would take minutes."""

    drained: int = 5_000
    live: int = 5_000
    loaded_runs: int = 1_000  # of ten steps each
    timers: int = 2_000
    waits: int = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A running peer. Of the figures for memory and CPU, `workers` and all their children count as its own,
    `servers` as the store or server beside it."""

    workers: Sequence[int]
    servers: Sequence[int] = ()
    held: Callable[[], Sequence[int]] | None = (
        None  # which stand still while tasks are sent; else all workers
    )
    is_held_well: Callable[[], bool] = lambda: True  # nothing that others need is locked meanwhile

    @property
    def pids(self) -> list[int]:
        return [pid for root in self.workers for pid in tree(root)]

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Its workers stand still inside the block, so that what is sent meanwhile lies ready when they go on."""
        pids = list(self.held() if self.held else self.pids)
        try:
            for _ in range(20):
                send_all(pids, signal.SIGSTOP)
                if self.is_held_well():
                    break
                send_all(pids, signal.SIGCONT)
                time.sleep(0.05)
            yield
        finally:
            send_all(pids, signal.SIGCONT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """`works` are those that it can do (see work.py); `notes` are the caveats by figure, "" for a general one."""

    name: str
    title: str
    environment: Environment
    distributions: Sequence[str]
    app: str  # the module under benchmarks.peers.apps
    flags: Sequence[str]
    works: frozenset[str]
    notes: Sequence[tuple[str, str]]
    start: Callable[[Site], AbstractContextManager[Deployment]]
    amounts: Amounts = field(default_factory=Amounts)


class Site:
    """A folder, a file of marks in memory, and processes that end with it."""

    def __enter__(self) -> Self:
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="taskflow-peer-"))
        self.marks_folder = Path(
            tempfile.mkdtemp(prefix="taskflow-peer-", dir=memory if memory.exists() else None)
        )
        self.marks = Marks(self.marks_folder / "marks")
        self.env: dict[str, str] = {VARIABLE: str(self.marks.path)}  # for workers and client
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.marks_folder, ignore_errors=True)

    @contextmanager
    def valkey(self) -> Iterator[ValkeyServer]:
        """The same store for all: TCP on loopback, AOF with everysec. Its URL goes to workers and client as BENCH_REDIS."""
        with ValkeyServer(aof=True, appendfsync="everysec") as server:
            self.env["BENCH_REDIS"] = server.url
            yield server

    @contextmanager
    def process(
        self,
        command: Sequence[str | Path],
        *,
        is_ready: Callable[[str], bool],
        env: Mapping[str, str] | None = None,
    ) -> Iterator[int]:
        """A process of the deployment that is ready, by what it has logged; gives its pid, and stops it at the end.

        Raises RuntimeError with the end of the log when it ends or takes too long.
        """
        log = self.folder / f"log-{time.monotonic_ns()}"
        with log.open("wb") as output:
            process = spawn(
                [str(part) for part in command],
                env=clean_environment({**self.env, **(env or {})}),
                cwd=self.folder,
                log=output.fileno(),
            )
        try:
            give_up_s = time.monotonic() + START_TIMEOUT_S
            while not is_ready(log.read_text(errors="replace")):
                if process.poll() is not None or time.monotonic() > give_up_s:
                    tail = log.read_text(errors="replace")[-1500:]
                    raise RuntimeError(f"{Path(command[0]).name} did not start:\n{tail}")
                time.sleep(0.02)
            yield process.pid
        finally:
            stop(process)

    @contextmanager
    def client(self, peer: Peer) -> Iterator[Client]:
        command = [
            str(peer.environment.python),
            "-m",
            "benchmarks.peers.client",
            f"benchmarks.peers.apps.{peer.app}",
        ]
        log = self.folder / "client-log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=clean_environment(self.env),
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,
            )
        try:
            yield Client(process, log)
        finally:
            stop(process)


class Client:
    """The process that sends, see client.py."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def call(
        self,
        operation: str,
        first: int,
        count: int = 1,
        *,
        gap_ms: tuple[float, float] | None = None,
        due_s: float = 0.0,
    ) -> Answer:
        """Have it call the operation for each number. Raises RuntimeError when a call failed."""
        assert self.process.stdin and self.process.stdout
        request = Request(operation=operation, first=first, count=count, gap_ms=gap_ms, due_s=due_s)
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the client ended: {self.log.read_text(errors='replace')[-1500:]}")
        answer: Answer = json.loads(line)
        if answer["error"]:
            raise RuntimeError(f"{operation}: {answer['error']}")
        return answer


def port_in(env: dict[str, str], name: str) -> int:
    """A free port, which workers and client find under that name too."""
    port = free_port()
    env[name] = str(port)
    return port


def tree(root: int) -> list[int]:
    """The process and all below it."""
    found = [root]
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{root}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    return found


def is_of_session(pid: int, session: int) -> bool:
    """Whether the process is still the one that we knew: each command of ours leads a session."""
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid) == session
    return False


def send_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def stop(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """SIGTERM, and after a while SIGKILL; what is left of its tree then goes too."""
    pids = tree(process.pid)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    send_all([pid for pid in pids if is_of_session(pid, process.pid)], signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
