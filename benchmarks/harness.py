"""Starts what is measured, as real processes: an embedded Valkey, `taskflow worker`, `taskflow beat`.

    with Stack() as stack, stack.system() as worker:
        stack.producer.send("bench/noop", {"n": 1})
        stack.wait_for_finished(1)

Everything that is started is stopped by its pid.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast

import redis

from benchmarks.functions import APP_ID
from taskflow.app import TaskFlow
from taskflow.event import Event
from tests.processes import REPOSITORY, TaskflowProcess
from tests.servers import ValkeyServer

PREFIX = "tf:{0}:"
DEADLINE_S = 300.0  # a benchmark that takes longer hangs
POLL_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What the store keeps of a finished run; ms since the epoch."""

    run_id: str
    status: str
    started_ms: int
    ended_ms: int
    child: str  # who executed it
    output: int


class Worker:
    """A running `taskflow worker`."""

    def __init__(self, process: TaskflowProcess) -> None:
        self.process = process

    @property
    def pids(self) -> list[int]:
        """Supervisor and children."""
        return [self.process.pid, *self.process.children()]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Its children stand still inside the block, so that what is sent meanwhile lies ready when they go on."""
        children = self.process.children()
        for pid in children:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in children:
                os.kill(pid, signal.SIGCONT)


class Stack:
    """A fresh embedded Valkey, and what runs on it. `redis` is a plain client to look with."""

    def __init__(self, target: str = "benchmarks.functions:app") -> None:
        self.target = target  # the app of the workers
        self.server = ValkeyServer(aof=True, appendfsync="everysec")
        self.warm_runs = 0  # finished runs that are no part of a measurement

    def __enter__(self) -> Self:
        self.server.start()
        self.redis = redis.Redis.from_url(self.server.url, decode_responses=True)
        self.raw = redis.Redis.from_url(self.server.url)  # for what is no text
        self.producer = TaskFlow(APP_ID, broker=self.server.url, store=self.server.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.producer.close()
        self.redis.close()
        self.raw.close()
        self.server.stop()

    @contextmanager
    def system(self, *, processes: int = 2) -> Iterator[Worker]:
        """What a deployment has: a beat, and a worker with warm processes."""
        with self.beat(), self.worker(processes=processes) as worker:
            yield worker

    @contextmanager
    def worker(self, *, processes: int, is_warm: bool = True) -> Iterator[Worker]:
        """A worker whose children are all ready, and have run something when `is_warm`."""
        arguments = ("worker", "-A", self.target, "--processes", str(processes))
        with self.command(*arguments) as process:
            process.wait_for_line("is ready")
            if is_warm:
                self.warm_up(processes)
            yield Worker(process)

    @contextmanager
    def beat(self) -> Iterator[TaskflowProcess]:
        """A beat that leads."""
        with self.command("beat") as process:
            self.wait_until(
                lambda: self.redis.hexists(f"{PREFIX}leader", "beat_id"), what="a beat that leads"
            )
            yield process

    @contextmanager
    def command(self, *arguments: str) -> Iterator[TaskflowProcess]:
        env = {"TASKFLOW_BROKER": self.server.url, "TASKFLOW_STORE": self.server.url}
        with TaskflowProcess(*arguments, cwd=REPOSITORY, env=env) as process:
            yield process
            process.stop()

    def warm_up(self, processes: int) -> None:
        """Send runs until each process has executed some."""

        def all_have() -> bool:
            self.producer.send([Event("bench/warm")] * 50)
            self.warm_runs += 50
            self.wait_for_finished(0)
            return len({record.child for record in self.records("warm")}) >= processes

        self.wait_until(all_have, what=f"{processes} processes that execute runs")

    def wait_for_finished(self, count: int) -> None:
        """Wait until `count` runs have finished, beside those of the warming up."""
        wanted = self.warm_runs + count
        self.wait_until(lambda: self.finished() >= wanted, what=f"{count:,} finished runs")

    def finished(self) -> int:
        spans = cast(list[str], self.redis.zrange(f"{PREFIX}expiry", 0, -1))
        return sum(int(self.redis.llen(f"{PREFIX}expiry:{span}")) for span in spans)

    def records(self, slug: str) -> list[RunRecord]:
        """The finished runs of a function, in the order of their events."""
        run_ids = cast(list[str], self.redis.zrange(f"{PREFIX}runs:{APP_ID}/{slug}", 0, -1))
        records: list[RunRecord] = []
        for start in range(0, len(run_ids), 1000):
            part = run_ids[start : start + 1000]
            with self.redis.pipeline(transaction=False) as pipeline:
                for run_id in part:
                    pipeline.hmget(f"{PREFIX}run:{run_id}", "status", "started", "ended", "by", "output")
                rows = cast(list[list[Any]], pipeline.execute())
            records += [as_record(run_id, row) for run_id, row in zip(part, rows, strict=True) if row[2]]
        return records

    def output(self, run_id: str) -> int:
        """What a finished run returned."""
        return int(str(self.redis.hget(f"{PREFIX}run:{run_id}", "output")))

    def wait_until(self, condition: Any, *, what: str) -> None:
        """Wait until `condition()` is true. Raises TimeoutError."""
        give_up_s = time.monotonic() + DEADLINE_S
        while not condition():
            if time.monotonic() > give_up_s:
                raise TimeoutError(f"waited {DEADLINE_S:g} s in vain for {what}")
            time.sleep(POLL_S)

    @contextmanager
    def ends_of_runs(self) -> Iterator[RunEnds]:
        """Tells when runs end, to the fraction of a millisecond."""
        listener: Any = self.redis.pubsub()  # type: ignore[no-untyped-call]
        with contextlib.closing(listener):
            listener.psubscribe(f"{PREFIX}done:*")
            listener.get_message(timeout=5.0)  # the confirmation
            yield RunEnds(listener)


class RunEnds:
    """What the store publishes when a run ends."""

    def __init__(self, listener: Any) -> None:
        self.listener = listener

    def next(self, *, timeout_s: float = 10.0) -> tuple[str, int]:
        """The id of the next run that ends, and when that was heard (monotonic ns). Raises TimeoutError."""
        message = self.listener.get_message(timeout=timeout_s)
        heard_ns = time.monotonic_ns()
        if message is None:
            raise TimeoutError(f"no run has ended for {timeout_s:g} s")
        return message["channel"].removeprefix(f"{PREFIX}done:"), heard_ns


def as_record(run_id: str, row: Sequence[str]) -> RunRecord:
    status, started, ended, child, output = row
    return RunRecord(
        run_id=run_id,
        status=status,
        started_ms=int(started),
        ended_ms=int(ended),
        child=child,
        output=0 if output in (None, "null") else int(output),
    )


def lists_of(events: Sequence[Event], size: int) -> Iterator[list[Event]]:
    for start in range(0, len(events), size):
        yield list(events[start : start + size])
