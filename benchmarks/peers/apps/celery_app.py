"""Celery's side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime

from celery import Celery, chord, group

from benchmarks.peers.client import Operation
from benchmarks.peers.marks import BRANCHES, Kind, mark

URL = os.environ["BENCH_REDIS"]

app = Celery("bench", broker=URL, backend=URL.removesuffix("/0") + "/1")
app.conf.worker_prefetch_multiplier = int(os.environ["BENCH_PREFETCH"])
app.conf.broker_connection_retry_on_startup = True


@app.task(name="noop")
def noop(number: int) -> int:
    mark(Kind.NOOP, number)
    return number


@app.task(name="branch")
def branch(number: int) -> int:
    """What a group consists of."""
    return number


@app.task(name="joined")
def joined(results: list[int], number: int) -> None:
    mark(Kind.JOINED, number)


@app.task(name="timer")
def timer(number: int) -> None:
    mark(Kind.WOKEN, number)


def start_group(number: int, due_s: float) -> None:
    chord(group(branch.s(item) for item in range(BRANCHES)), joined.s(number)).apply_async()


def set_timer(number: int, due_s: float) -> None:
    timer.apply_async((number,), eta=datetime.fromtimestamp(due_s, UTC))


def connect() -> Mapping[str, Operation]:
    return {"noop": lambda number, due_s: noop.delay(number), "group": start_group, "timer": set_timer}
