"""Dramatiq's side."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend as BarrierBackend
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.peers.client import Operation
from benchmarks.peers.marks import BRANCHES, Kind, mark

URL = os.environ["BENCH_REDIS"]

broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
broker.add_middleware(GroupCallbacks(BarrierBackend(url=URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(number: int) -> int:
    mark(Kind.NOOP, number)
    return number


@dramatiq.actor(store_results=True)
def branch(number: int) -> int:
    """What a group consists of."""
    return number


@dramatiq.actor
def joined(number: int) -> None:
    mark(Kind.JOINED, number)


@dramatiq.actor
def timer(number: int) -> None:
    mark(Kind.WOKEN, number)


def start_group(number: int, due_s: float) -> None:
    group = dramatiq.group([branch.message(item) for item in range(BRANCHES)])
    group.add_completion_callback(joined.message(number))
    group.run()


def set_timer(number: int, due_s: float) -> None:
    timer.send_with_options(args=(number,), delay=max(0, round((due_s - time.time()) * 1000)))


def connect() -> Mapping[str, Operation]:
    return {"noop": lambda number, due_s: noop.send(number), "group": start_group, "timer": set_timer}
