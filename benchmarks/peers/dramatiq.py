"""Dramatiq: two processes with eight threads each, which is its default number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.peers.environment import Environment
from benchmarks.peers.peer import Deployment, Peer, Site
from benchmarks.peers.work import QUEUE

ENVIRONMENT = Environment(name="dramatiq", packages=("dramatiq[redis]==2.2.1", "hiredis==3.5.0"))
WORKER = ["benchmarks.peers.apps.dramatiq_app", "--processes", "2", "--threads", "8"]


@contextmanager
def start(site: Site) -> Iterator[Deployment]:
    with (
        site.valkey() as valkey,
        site.process(
            [ENVIRONMENT.script("dramatiq"), *WORKER],
            is_ready=lambda log: log.count("is ready for action") >= 2,
        ) as worker,
    ):
        yield Deployment(workers=[worker], servers=[valkey.pid])


PEER = Peer(
    name="dramatiq",
    title="Dramatiq",
    environment=ENVIRONMENT,
    distributions=("dramatiq", "redis", "hiredis"),
    app="dramatiq_app",
    flags=(
        "`dramatiq app --processes 2 --threads 8`",
        "`RedisBroker`, `Results` with `store_results=True`, `GroupCallbacks`",
    ),
    works=QUEUE,
    notes=(
        (
            "",
            "A message is acknowledged when its task has ended, so one that a crash interrupts runs again, from its start.",
        ),
        (
            "drained_per_s",
            "Results are stored, which is not its default: without them it has less to do, and keeps nothing.",
        ),
        ("latency_p50_ms", "An idle worker asks its Redis queue with growing pauses, up to a second."),
        ("group_ms", "A group with a completion callback, which a worker runs."),
        (
            "timers_p99_ms",
            "Messages with a `delay`: workers fetch thousands of them at once and keep them in memory.",
        ),
    ),
    start=start,
)
