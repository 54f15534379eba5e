"""taskiq: two worker processes on Redis Streams, and its scheduler, which timers need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from benchmarks.peers.environment import Environment
from benchmarks.peers.peer import Deployment, Peer, Site, tree
from benchmarks.peers.work import QUEUE

ENVIRONMENT = Environment(
    name="taskiq", packages=("taskiq[uv]==0.13.0", "taskiq-redis==1.2.4", "hiredis==3.5.0")
)
DISTRIBUTIONS = ("taskiq", "taskiq-redis", "redis", "hiredis", "uvloop")
APP = "benchmarks.peers.apps.taskiq_app"
READY = "Listening started"


def start_worker(site: Site, app: str) -> AbstractContextManager[int]:
    """Its two processes, which are ready; gives the pid of their parent."""
    return site.process(
        [ENVIRONMENT.script("taskiq"), "worker", f"{app}:broker", "--workers", "2"],
        is_ready=lambda log: log.count(READY) >= 2,
    )


@contextmanager
def start(site: Site) -> Iterator[Deployment]:
    with (
        site.valkey() as valkey,
        start_worker(site, APP) as worker,
        site.process(
            [ENVIRONMENT.script("taskiq"), "scheduler", f"{APP}:scheduler", "--update-interval", "1"],
            is_ready=lambda log: "Startup completed" in log,
        ) as scheduler,
    ):
        yield Deployment(workers=[worker, scheduler], servers=[valkey.pid], held=lambda: tree(worker))


PEER = Peer(
    name="taskiq",
    title="taskiq",
    environment=ENVIRONMENT,
    distributions=DISTRIBUTIONS,
    app="taskiq_app",
    flags=(
        "`taskiq worker app:broker --workers 2`",
        "`taskiq scheduler app:scheduler --update-interval 1`",
        "`RedisStreamBroker`, `RedisAsyncResultBackend`, `ListRedisScheduleSource`",
    ),
    works=QUEUE,
    notes=(
        (
            "",
            "A message is acknowledged when its result is stored. One that a crash interrupts is taken over after 10 minutes.",
        ),
        ("drained_per_s", "Its log level is the default, so each task writes a line."),
        ("pss_mb", "Workers and the scheduler."),
        (
            "group_ms",
            "No join in a worker: the client waits for a hundred results, and asks for each every 0.2 s.",
        ),
        (
            "timers_p99_ms",
            "The scheduler looks once a second; by default it learns of new schedules once a minute.",
        ),
    ),
    start=start,
)
