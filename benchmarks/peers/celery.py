"""Celery: the prefork pool with two processes, and results kept in the same store.

The prefetch multiplier is what its manual says for many short tasks, 64 or 128; the default is 4. Its log level is the default,
WARNING, so that no task writes a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.peers.environment import Environment
from benchmarks.peers.peer import Amounts, Deployment, Peer, Site
from benchmarks.peers.work import QUEUE

ENVIRONMENT = Environment(name="celery", packages=("celery[redis]==5.7.0", "hiredis==3.5.0"))
PREFETCH = 128
WORKER = ["-A", "benchmarks.peers.apps.celery_app", "worker", "--pool", "prefork", "--concurrency", "2"]


@contextmanager
def start(site: Site) -> Iterator[Deployment]:
    with site.valkey() as valkey:
        site.env["BENCH_PREFETCH"] = str(PREFETCH)
        with site.process(
            [ENVIRONMENT.script("celery"), *WORKER], is_ready=lambda log: "[queues]" in log
        ) as worker:
            yield Deployment(workers=[worker], servers=[valkey.pid])


PEER = Peer(
    name="celery",
    title="Celery",
    environment=ENVIRONMENT,
    distributions=("celery", "kombu", "redis", "hiredis"),
    app="celery_app",
    flags=(
        f"`celery -A app worker --pool prefork --concurrency 2`, `worker_prefetch_multiplier` {PREFETCH}",
        "Redis as broker and result backend, JSON",
    ),
    works=QUEUE,
    amounts=Amounts(drained=3_000, live=2_000),
    notes=(
        (
            "",
            "Not durable: a task is acknowledged when it starts (the default), so one that a crash interrupts is lost.",
        ),
        (
            "drained_per_s",
            "The prefetch multiplier is what its manual says for many short tasks; the default is 4. Results are stored.",
        ),
        ("group_ms", "A chord of a hundred tasks; its callback runs in a worker."),
        (
            "timers_p99_ms",
            "Tasks with an `eta`: the worker fetches all of them at once and keeps them in memory.",
        ),
    ),
    start=start,
)
