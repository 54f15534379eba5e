"""DBOS: one process on SQLite, with which its docs begin. Its database for production, Postgres, is not measured."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.peers.environment import Environment
from benchmarks.peers.peer import Amounts, Deployment, Peer, Site
from benchmarks.peers.work import DURABLE

ENVIRONMENT = Environment(name="dbos", packages=("dbos==3.4.0",))


@contextmanager
def start(site: Site) -> Iterator[Deployment]:
    path = site.folder / "dbos.sqlite"
    site.env["BENCH_SQLITE"] = f"sqlite:///{path}"
    command: list[str | Path] = [ENVIRONMENT.python, "-m", "benchmarks.peers.apps.dbos_app"]
    with site.process(command, is_ready=lambda log: "launched" in log.splitlines()) as worker:
        yield Deployment(workers=[worker], is_held_well=lambda: is_writable(path))


def is_writable(path: Path) -> bool:
    """Whether the process that stands still holds no lock on the database."""
    with closing(sqlite3.connect(path, timeout=0.2, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return False
    return True


PEER = Peer(
    name="dbos",
    title="DBOS (SQLite)",
    environment=ENVIRONMENT,
    distributions=("dbos", "sqlalchemy"),
    app="dbos_app",
    flags=(
        "one process: `DBOS.launch()`, and `DBOS.register_queue(name)`, which polls once a second by default",
        "SQLite in a file; async workflows, enqueued by `DBOSClient` from another process",
    ),
    works=DURABLE,
    amounts=Amounts(drained=600, live=300, loaded_runs=30, timers=300, waits=100),
    notes=(
        (
            "",
            "Its docs recommend Postgres for production. SQLite syncs each commit to disk; Valkey is synced once a second here.",
        ),
        ("drained_per_s", "The first poll of the queue, up to a second away, is part of it."),
        (
            "latency_p50_ms",
            "By queue, which is polled once a second; a workflow that its own process starts needs no poll.",
        ),
        ("group_ms", "A hundred child workflows by queue, awaited in the workflow."),
        ("timers_p99_ms", "300 timers, where the others have 2,000."),
        ("resumed_per_s", "`DBOS.recv` and `DBOSClient.send`."),
    ),
    start=start,
)
