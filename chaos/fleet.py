"""The deployment that is struck: store, broker, proxies, two hosts of workers, two beats.

What dies is started again, as by an init system.
Workers, beats and producers reach the servers through proxies. This process looks into the store directly.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, cast

import redis

from chaos.functions import APP_ID, NEW, OLD, RELEASE_VARIABLE, STEPS
from taskflow import TaskFlow
from taskflow.store.keys import Keys
from tests.processes import TaskflowProcess, is_alive
from tests.proxy import Proxy
from tests.robustness.app import JOURNAL_VARIABLE
from tests.robustness.deployment import send
from tests.robustness.journal import Journal
from tests.servers import RabbitMQServer, RedisServer, Server, ValkeyServer

BrokerKind = Literal["valkey", "redis", "rabbitmq"]

NAMESPACE = "tf"
# Few slots, so that parallel steps are offered to other processes, too.
WORKER = ("worker", "-A", "chaos.functions:app", "--processes", "2", "--concurrency", "6")
BEAT = ("beat",)
HOSTS, BEATS = 2, 2
DRAIN_S = 20.0  # nothing executes then
RESTART_PAUSE_S = 0.5  # between a death and the next start, as of systemd's RestartSec
# By chance a run may be there at many deaths; what poisons a process is tested elsewhere.
MAX_CRASHES = "100"


class Fleet:
    """Servers, proxies and processes.

    Call it all from one thread that lives as long: the kernel kills servers with the thread that started them. `operator` is
    another such thread, for restarts, since a RabbitMQ takes its time.
    """

    def __init__(self, folder: Path, *, broker: BrokerKind) -> None:
        self.folder = folder
        self.journal = Journal(folder / "journal")
        self.journal.path.touch()
        self.store: Server = ValkeyServer(aof=True, appendfsync="always")
        self.broker = make_broker(broker) or self.store
        self.workers: list[TaskflowProcess] = []
        self.beats: list[TaskflowProcess] = []
        self.ended: list[TaskflowProcess] = []
        self.proxies: dict[str, Proxy] = {}
        self.env: dict[str, str] = {}
        self.release = OLD  # of the code of workers that start from now on
        self.releases: dict[int, str] = {}  # pid of a worker -> that of its code
        self.deployed_ms: int | None = None  # from when on all workers have the newer code
        self.keys = Keys(NAMESPACE)
        self._died_s: dict[int, float] = {}  # pid -> when it was found dead
        self._stack = ExitStack()
        self.operator = self._stack.enter_context(ThreadPoolExecutor(1, "chaos-operator"))

    @property
    def has_own_broker(self) -> bool:
        return self.broker is not self.store

    @property
    def processes(self) -> list[TaskflowProcess]:
        """All that were ever started."""
        return [*self.workers, *self.beats, *self.ended]

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self.store)
            if self.has_own_broker:
                self._stack.enter_context(self.broker)
            for name, server in (("producers", self.broker), ("events", self.broker), ("store", self.store)):
                self.proxies[name] = self._stack.enter_context(Proxy(server.port))
            self.redis = redis.Redis.from_url(self.store.url)
            self._stack.callback(self.redis.close)
            self._stack.callback(self._end_processes)
            self.env = {
                "TASKFLOW_STORE": self.proxies["store"].url_of(self.store.url),
                "TASKFLOW_BROKER": self.proxies["events"].url_of(self.broker.url),
                "TASKFLOW_NAMESPACE": NAMESPACE,
                "TASKFLOW_MAX_CRASHES": MAX_CRASHES,
                JOURNAL_VARIABLE: str(self.journal.path),
            }
            self._start_missing()
            for process in (*self.workers, *self.beats):
                process.wait_for_line("is ready", deadline_s=30)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def new_app(self, *, send_timeout_s: float) -> TaskFlow:
        """A producer's front door."""
        return TaskFlow(
            APP_ID,
            broker=self.proxies["producers"].url_of(self.broker.url),
            store=self.store.url,
            namespace=NAMESPACE,
            send_timeout=send_timeout_s,
        )

    def revive(self) -> None:
        """Start again what has been dead for long enough."""
        for living in (self.workers, self.beats):
            for process in [each for each in living if each.process.poll() is not None]:
                died_s = self._died_s.setdefault(process.pid, time.monotonic())
                if time.monotonic() - died_s >= RESTART_PAUSE_S:
                    living.remove(process)
                    self.ended.append(process)
                    del self._died_s[process.pid]
        self._start_missing()
        self._note_deployed()

    def _note_deployed(self) -> None:
        """The first worker with the newer code is ready, and all of the older code is gone, orphans too."""
        if self.deployed_ms is not None or self.release == OLD or self.orphans():
            return
        if all(self.releases[worker.pid] == NEW for worker in self.workers) and any(
            "is ready" in worker.stderr for worker in self.workers
        ):
            self.deployed_ms = time.time_ns() // 1_000_000

    def deploy_one(self, pick: float) -> TaskflowProcess | None:
        """From now on workers start with the newer code: let one that has the older code drain, which revival replaces."""
        self.release = NEW
        old = [
            worker
            for worker in self.workers
            if worker.process.poll() is None and self.releases[worker.pid] == OLD
        ]
        if not old:
            return None
        worker = old[int(pick * len(old))]
        worker.send_signal(signal.SIGTERM)
        return worker

    def children(self) -> list[int]:
        return [pid for worker in self.workers for pid in worker.children()]

    def orphans(self) -> list[int]:
        """Children whose supervisor is dead, and which live."""
        return [pid for process in self.ended for pid in process.seen if is_alive(pid)]

    def run_ids(self) -> list[str]:
        """All runs that the store has."""
        return [
            run_id.decode()
            for name in STEPS
            for run_id in cast(list[bytes], self.redis.zrange(self.keys.runs(f"{APP_ID}/{name}"), 0, -1))
        ]

    def statuses(self) -> dict[str, str]:
        """The status of every run."""
        ids = self.run_ids()
        pipeline = self.redis.pipeline(transaction=False)
        for run_id in ids:
            pipeline.hget(self.keys.run(run_id), "status")
        return {
            run_id: (status or b"").decode() for run_id, status in zip(ids, pipeline.execute(), strict=True)
        }

    def logs(self) -> Iterator[tuple[str, str]]:
        """(name, log) of every process."""
        for process in self.processes:
            yield f"{process.arguments[0]}-{process.pid}", process.stderr

    def drain(self) -> list[str]:
        """End the workers and beats in order; what is wrong with how they ended."""
        for process in (*self.workers, *self.beats):
            with suppress(AssertionError):  # how it ended is told below
                process.wait_for_line("is ready", deadline_s=DRAIN_S)  # before that, SIGTERM just kills it
            process.children()
            process.send_signal(signal.SIGTERM)
        problems = []
        for process in (*self.workers, *self.beats):
            name = f"{process.arguments[0]} {process.pid}"
            try:
                if code := process.wait(deadline_s=DRAIN_S):
                    problems.append(f"{name} ended by {code} at SIGTERM")
            except AssertionError as error:
                problems.append(f"{name}: {error}")
        return problems

    def _start_missing(self) -> None:
        for living, command, count in ((self.workers, WORKER, HOSTS), (self.beats, BEAT, BEATS)):
            while len(living) < count:
                process = TaskflowProcess(
                    *command, cwd=self.folder, env=self.env | {RELEASE_VARIABLE: self.release}
                )
                living.append(process)
                self.releases[process.pid] = self.release

    def _end_processes(self) -> None:
        for process in self.processes:
            for pid in (process.pid, *process.children()):
                send(pid, signal.SIGCONT)
            process.__exit__(None, None, None)


def make_broker(kind: BrokerKind) -> Server | None:
    """None: the store serves as the broker, too."""
    match kind:
        case "redis":
            return RedisServer(aof=True, appendfsync="always")
        case "rabbitmq":
            return RabbitMQServer()
        case _:
            return None
