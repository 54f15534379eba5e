"""huey: two worker processes on its Redis storage, which blocks for messages and keeps results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.peers.environment import Environment
from benchmarks.peers.peer import Deployment, Peer, Site
from benchmarks.peers.work import QUEUE

ENVIRONMENT = Environment(name="huey", packages=("huey==3.5.4", "redis==8.1.0", "hiredis==3.5.0"))
APP = "benchmarks.peers.apps.huey_app"
WORKER = ["--worker-type", "process", "--workers", "2", "--quiet"]


@contextmanager
def start(site: Site) -> Iterator[Deployment]:
    with (
        site.valkey() as valkey,
        site.process(
            [ENVIRONMENT.script("huey_consumer"), f"{APP}.huey", *WORKER],
            is_ready=lambda log: log.count("worker starts") >= 2,
        ) as worker,
    ):
        yield Deployment(workers=[worker], servers=[valkey.pid])


PEER = Peer(
    name="huey",
    title="huey",
    environment=ENVIRONMENT,
    distributions=("huey", "redis", "hiredis"),
    app="huey_app",
    flags=(
        "`huey_consumer app.huey --worker-type process --workers 2 --quiet`",
        "`RedisHuey`, which stores results and blocks for messages: the defaults",
    ),
    works=QUEUE,
    notes=(
        (
            "",
            "Not durable: a message is taken from its list when a worker gets it, so one that a crash interrupts is lost.",
        ),
        (
            "drained_per_s",
            "Quiet, so that no task writes a line: two a task are its default. Results stay until they are read.",
        ),
        ("pss_mb", "Two workers, their parent and the scheduler."),
        ("group_ms", "A group of a hundred tasks with a callback, which a worker runs."),
        ("timers_p99_ms", "The scheduler looks once a second, the most often that it can."),
    ),
    start=start,
)
