"""taskiq at its fastest: without a result backend, and without a scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.peers.peer import Deployment, Peer, Site, tree
from benchmarks.peers.taskiq import DISTRIBUTIONS, ENVIRONMENT, start_worker

APP = "benchmarks.peers.apps.taskiq_plain_app"


@contextmanager
def start(site: Site) -> Iterator[Deployment]:
    with site.valkey() as valkey, start_worker(site, APP) as worker:
        yield Deployment(workers=[worker], servers=[valkey.pid], held=lambda: tree(worker))


PEER = Peer(
    name="taskiq_plain",
    title="taskiq without results",
    environment=ENVIRONMENT,
    distributions=DISTRIBUTIONS,
    app="taskiq_plain_app",
    flags=("`taskiq worker app:broker --workers 2`", "`RedisStreamBroker`, no result backend"),
    works=frozenset({"footprint", "latency", "live", "drain"}),
    notes=(
        ("", "Nothing tells whether a task has ended, and with what: it has less to do than all others."),
        ("drained_per_s", "No results are stored. Its log level is the default, so each task writes a line."),
    ),
    start=start,
)
