"""huey's side."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping

from huey import RedisHuey
from huey.api import group

from benchmarks.peers.client import Operation
from benchmarks.peers.marks import BRANCHES, Kind, mark

huey = RedisHuey("bench", url=os.environ["BENCH_REDIS"])


@huey.on_startup()
def say_so() -> None:
    """Each worker calls it before it takes its first message; a quiet consumer says nothing else."""
    sys.stderr.write("worker starts\n")


@huey.task()
def noop(number: int) -> int:
    mark(Kind.NOOP, number)
    return number


@huey.task()
def branch(number: int) -> int:
    """What a group consists of."""
    return number


@huey.task()
def joined(number: int, results: list[int]) -> None:
    mark(Kind.JOINED, number)


@huey.task()
def timer(number: int) -> None:
    mark(Kind.WOKEN, number)


def start_group(number: int, due_s: float) -> None:
    huey.enqueue(group([branch.s(item) for item in range(BRANCHES)]).then(joined, number))


def set_timer(number: int, due_s: float) -> None:
    timer.schedule((number,), delay=max(0.0, due_s - time.time()))


def connect() -> Mapping[str, Operation]:
    return {"noop": lambda number, due_s: noop(number), "group": start_group, "timer": set_timer}
