"""taskflow itself: a beat, and a worker with two processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.peers.environment import Environment
from benchmarks.peers.peer import Amounts, Deployment, Peer, Site, tree
from benchmarks.peers.work import DURABLE

TASKFLOW = [sys.executable, "-P", "-m", "taskflow"]
WORKER = ["worker", "-A", "benchmarks.peers.apps.taskflow_app:app", "--processes", "2"]


@contextmanager
def start(site: Site) -> Iterator[Deployment]:
    with site.valkey() as valkey:
        env = {"TASKFLOW_BROKER": valkey.url, "TASKFLOW_STORE": valkey.url}
        with (
            site.process([*TASKFLOW, "beat"], is_ready=lambda log: "leads" in log, env=env) as beat,
            site.process([*TASKFLOW, *WORKER], is_ready=lambda log: "is ready" in log, env=env) as worker,
        ):
            yield Deployment(workers=[worker, beat], servers=[valkey.pid], held=lambda: tree(worker)[1:])


PEER = Peer(
    name="taskflow",
    title="taskflow",
    environment=Environment(name="taskflow"),
    distributions=("kombu", "redis", "hiredis", "uvloop"),
    app="taskflow_app",
    flags=("`taskflow beat`", "`taskflow worker -A app --processes 2`"),
    works=DURABLE,
    amounts=Amounts(drained=20_000, live=10_000, loaded_runs=2_000, waits=4_000),
    notes=(
        ("", "Every task is a run with a durable record of its event, times and result, kept for 24 hours."),
        ("pss_mb", "Worker (supervisor and two processes) and beat, which timers and recovery need."),
        (
            "branches_ms",
            "The steps run in the process that finds them; they move to another one only when slots are short.",
        ),
        ("group_ms", "A hundred runs by `step.invoke`, each with a record of its own, joined inside a run."),
    ),
    start=start,
)
