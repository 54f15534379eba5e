"""arq: two workers, one process each, as it has no option for more; its defaults otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers.environment import Environment
from benchmarks.peers.peer import Amounts, Deployment, Peer, Site
from benchmarks.peers.work import QUEUE

ENVIRONMENT = Environment(name="arq", packages=("arq==0.28.0",))
SETTINGS = "benchmarks.peers.apps.arq_app.WorkerSettings"


@contextmanager
def start(site: Site) -> Iterator[Deployment]:
    command: list[str | Path] = [ENVIRONMENT.script("arq"), SETTINGS]
    with (
        site.valkey() as valkey,
        site.process(command, is_ready=lambda log: "Starting worker" in log) as first,
        site.process(command, is_ready=lambda log: "Starting worker" in log) as second,
    ):
        yield Deployment(workers=[first, second], servers=[valkey.pid])


PEER = Peer(
    name="arq",
    title="arq",
    environment=ENVIRONMENT,
    distributions=("arq", "redis", "hiredis"),
    app="arq_app",
    flags=("`arq app.WorkerSettings`, twice", "`max_jobs` 10 and `poll_delay` 0.5 s, the defaults"),
    works=QUEUE,
    amounts=Amounts(drained=1_000, live=500),
    notes=(
        (
            "",
            "A job that a crash interrupts runs again after its timeout, 5 minutes by default. Results are stored.",
        ),
        (
            "drained_per_s",
            "Its log level is the default, so each job writes two lines. At most 10 jobs run at a time in a worker.",
        ),
        (
            "latency_p50_ms",
            "A worker looks for jobs twice a second; a smaller `poll_delay` makes that more often, for CPU.",
        ),
        (
            "group_ms",
            "No join in a worker: the client waits for a hundred results, and asks for each every 0.5 s.",
        ),
        ("timers_p99_ms", "Jobs with `_defer_until`, which the store keeps."),
    ),
    start=start,
)
