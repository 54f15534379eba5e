"""A deployment for one test: workers and beats as real processes, the front door, and the journal of what was executed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import redis

from taskflow import BrokerUnavailable, Event, TaskFlow
from taskflow.store.keys import SEPARATOR, Keys
from taskflow.values.ids import run_id_for
from tests.processes import DEADLINE_S, TaskflowProcess, is_alive, wait_until
from tests.robustness.app import GATE_VARIABLE, JOURNAL_VARIABLE
from tests.robustness.journal import Journal, StoredRun, read_runs

TARGET = "tests.robustness.app:app"
FINAL = {"completed", "failed", "cancelled", "skipped"}

CHILD_LOST_S = 2.0  # S9.3: its parent lives
HOST_LOST_S = 15.0  # S9.3: nobody tells of it
LEAD_PASSES_S = 10.0  # S8.1


class Deployment:
    """`store` and `broker` are what this process and, unless told otherwise, all others use. `admin` looks into the store."""

    def __init__(
        self,
        folder: Path,
        *,
        store: str,
        broker: str,
        namespace: str,
        send_timeout: str = "3s",
        admin: redis.Redis | None = None,
    ) -> None:
        self.folder = folder
        self.namespace = namespace
        self.journal = Journal(folder / "journal")
        self.gate = folder / "gate"
        self.env = {
            "TASKFLOW_STORE": store,
            "TASKFLOW_BROKER": broker,
            "TASKFLOW_NAMESPACE": namespace,
            JOURNAL_VARIABLE: str(self.journal.path),
            GATE_VARIABLE: str(self.gate),
        }
        self.app = TaskFlow(
            "robust", store=store, broker=broker, namespace=namespace, send_timeout=send_timeout
        )
        self.keys = Keys(namespace)
        self.redis = redis.Redis.from_url(store) if admin is None else admin
        self.processes: list[TaskflowProcess] = []

    # Processes

    def start(self, command: str, *arguments: str, env: dict[str, str] | None = None) -> TaskflowProcess:
        """Start `taskflow <command>`, and don't wait for anything."""
        process = TaskflowProcess(command, *arguments, cwd=self.folder, env=self.env | (env or {}))
        self.processes.append(process)
        return process

    def start_worker(
        self, *arguments: str, processes: int = 1, env: dict[str, str] | None = None
    ) -> TaskflowProcess:
        """A worker of which every child has started."""
        worker = self.start("worker", "-A", TARGET, "--processes", str(processes), *arguments, env=env)
        worker.wait_for_line("is ready")
        wait_until(lambda: len(worker.children()) >= processes, what="its children")
        return worker

    def start_beat(self, *, line: str = "this beat (leads|stands by)") -> TaskflowProcess:
        beat = self.start("beat")
        beat.wait_for_line("beat is ready" if line == "" else line)
        return beat

    # Runs

    def invoke(self, function: str, data: dict[str, object] | None = None, *, count: int = 1) -> list[str]:
        """Start runs directly; returns their ids."""
        return [self.app.invoke(f"robust/{function}", dict(data or {})).id for _ in range(count)]

    def send(self, function: str, data: dict[str, object], *, count: int = 1) -> list[str]:
        """Send events `robust/<function>`; returns the ids of the runs that they start."""
        uids = self.app.send([Event(f"robust/{function}", dict(data)) for _ in range(count)])
        return [run_id_for(uid, f"robust/{function}") for uid in uids]

    def mark_work_message_as_sent(self) -> None:
        """As if a work message for the default queue had been sent just now."""
        self.redis.hset(
            f"{self.keys.prefix}hints", f"robust{SEPARATOR}default", str(time.time_ns() // 1_000_000)
        )

    def open_gate(self) -> None:
        """Let the step `gate` of all held runs end."""
        self.gate.touch()

    def runs(self, run_ids: Iterable[str]) -> list[StoredRun]:
        return read_runs(self.redis, self.keys, run_ids)

    def all_runs(self, function: str) -> list[StoredRun]:
        """Every run of the function in the store, also those whose `send` failed although the broker had taken it."""
        ids = cast(list[bytes], self.redis.zrange(self.keys.runs(f"robust/{function}"), 0, -1))
        return self.runs([run_id.decode() for run_id in ids])

    def wait_until_final(self, run_ids: Sequence[str], *, deadline_s: float = DEADLINE_S) -> list[StoredRun]:
        """Wait until all runs have ended, and return them; says which have not."""
        left = list(run_ids)

        def is_over() -> bool:
            pipeline = self.redis.pipeline(transaction=False)
            for run_id in left:
                pipeline.hget(self.keys.run(run_id), "status")
            found = zip(left, pipeline.execute(), strict=True)
            left[:] = [run_id for run_id, status in found if status is None or status.decode() not in FINAL]
            return not left

        try:
            wait_until(is_over, what=f"the end of {len(run_ids)} runs", deadline_s=deadline_s)
        except AssertionError as error:
            told = [f"{run.run_id} {run.function}: {run.fields}" for run in self.runs(left[:5])]
            raise AssertionError("\n".join([f"{error}; {len(left)} have not ended", *told])) from None
        return self.runs(run_ids)

    def wait_for_starts(self, step: str, count: int, *, deadline_s: float = DEADLINE_S) -> list[int]:
        """Wait until `count` executions of the step have begun; the pids, in order."""
        wait_until(
            lambda: len(self.journal.lines(what="start", step=step)) >= count,
            what=f"{count} starts of step {step!r}",
            deadline_s=deadline_s,
        )
        return [line.pid for line in self.journal.lines(what="start", step=step)]

    # The end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            resume(process)
            process.__exit__(kind, error, trace)
        self.app.close()
        self.redis.close()


def resume(process: TaskflowProcess) -> None:
    for pid in (process.pid, *process.children()):
        send(pid, signal.SIGCONT)


def send(pid: int, number: signal.Signals) -> None:
    """To a process of ours that may have ended."""
    if is_alive(pid):
        os.kill(pid, number)


def kill_host(worker: TaskflowProcess) -> None:
    """SIGKILL to the supervisor and its children at once, as when the machine is gone: nobody hands anything back."""
    family = [worker.pid, *worker.children()]
    for pid in family:  # first stop them all, so that none sees another's death
        send(pid, signal.SIGSTOP)
    for pid in family:
        send(pid, signal.SIGKILL)
    worker.kill()


def family(processes: Iterable[TaskflowProcess]) -> set[int]:
    """The pids of these processes and their children."""
    return {pid for process in processes for pid in (process.pid, *process.children())}


class Load:
    """Sends events on a thread, `every_s` seconds, until it is stopped; keeps what was taken, and times each call."""

    def __init__(
        self, deployment: Deployment, *, function: str, data: dict[str, object], every_s: float
    ) -> None:
        self.taken: list[str] = []  # run ids
        self.refused = 0
        self.slowest_s = 0.0
        self._send: Callable[[], list[str]] = lambda: deployment.send(function, data)
        self._every_s = every_s
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="tests-load")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def wait_for(self, count: int, *, deadline_s: float = DEADLINE_S) -> None:
        """Wait until `count` more events are taken."""
        wanted = len(self.taken) + count
        wait_until(
            lambda: len(self.taken) >= wanted, what=f"{count} more events taken", deadline_s=deadline_s
        )

    def wait_for_refusals(self, count: int, *, deadline_s: float = DEADLINE_S) -> None:
        """Wait until `count` more calls of `send` have raised BrokerUnavailable."""
        wanted = self.refused + count
        wait_until(lambda: self.refused >= wanted, what=f"{count} more refusals", deadline_s=deadline_s)

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._every_s):
                began_s = time.monotonic()
                try:
                    self.taken += self._send()
                except BrokerUnavailable:
                    self.refused += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
        except BaseException as error:  # told by the thread that started this one
            self._error = error
