"""One producer that sends one by one while two worker processes execute, all on two cores: taskflow, huey and taskiq in turns.

Each is started once, on a store of its own, and stands idle while the others are measured. Rounds are short and alternate, so that
a busy second of the machine hits all of them.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

from benchmarks.machine import cpu_s
from benchmarks.peers.huey import PEER as HUEY
from benchmarks.peers.marks import Kind
from benchmarks.peers.peer import Peer
from benchmarks.peers.taskflow import PEER as TASKFLOW
from benchmarks.peers.taskiq import PEER as TASKIQ
from benchmarks.peers.work import Bench, running
from benchmarks.report import Benchmark, Figures, Row, Scale, Unavailable, at_least

PEERS = (TASKFLOW, HUEY, TASKIQ)
ROUNDS = 5
STORED_S = 0.2  # within this after the last task's line, its result is stored
CORES = 2

FIGURES = {
    "per_s": ("sent and executed", "runs/s"),
    "worker_us": ("CPU of the workers for a run", "us"),
    "server_us": ("CPU of the store for a run", "us"),
    "producer_us": ("CPU of the producer for a run", "us"),
    "all_us": ("CPU of all of them for a run", "us"),
}


def measure(scale: Scale) -> Figures:
    with two_cores():
        return measure_peers(PEERS, scale)


@contextmanager
def two_cores() -> Iterator[None]:
    """This process, and what it starts, on two cores, where the system lets it choose."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:CORES])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def measure_peers(peers: Sequence[Peer], scale: Scale) -> Figures:
    """Medians of the rounds; a peer that can't be installed here has no figures."""
    rounds: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    with ExitStack() as stack:
        benches = {}
        for peer in peers:
            with suppress(Unavailable):
                peer.environment.install()
                benches[peer.name] = stack.enter_context(running(peer, scale))
        for _ in range(scale.pick(ROUNDS, 1)):
            for name, bench in benches.items():
                rounds[name].append(one_round(bench))
    figures = {
        f"{name}_{figure}": statistics.median(each[figure] for each in measured)
        for name, measured in rounds.items()
        for figure in FIGURES
    }
    for other in set(rounds) - {TASKFLOW.name}:
        pairs = list(zip(rounds[TASKFLOW.name], rounds[other], strict=True))
        figures[f"rate_to_{other}"] = statistics.median(ours["per_s"] / its["per_s"] for ours, its in pairs)
        figures[f"cpu_to_{other}"] = statistics.median(its["all_us"] / ours["all_us"] for ours, its in pairs)
    return figures


def one_round(bench: Bench) -> Mapping[str, float]:
    count = bench.scale.pick(2_000, 100)
    numbers = bench.numbers(count)
    groups = {
        "worker_us": bench.deployment.pids,
        "server_us": bench.deployment.servers,
        "producer_us": [bench.client.pid],
    }
    before = {name: cpu_s(pids) for name, pids in groups.items()}
    sent_ns = bench.call("noop", numbers)["sent_ns"]
    ended_ns = max(bench.wait_for(Kind.NOOP, numbers))
    time.sleep(STORED_S)
    used = {name: (cpu_s(pids) - before[name]) / count * 1e6 for name, pids in groups.items()}
    return {
        "per_s": count / ((ended_ns - sent_ns[0]) / 1e9),
        **used,
        "all_us": sum(used.values()),
    }


BENCHMARK = Benchmark(
    name="live",
    rows=(
        *(
            Row(f"{peer.name}_{key}", f"{peer.title}: {says}", unit)
            for peer in PEERS
            for key, (says, unit) in FIGURES.items()
        ),
        Row("rate_to_huey", "runs/s of taskflow to those of huey, median of the rounds", "x", at_least(1.7)),
        Row("rate_to_taskiq", "the same to taskiq", "x", at_least(2)),
        Row("cpu_to_huey", "CPU of huey for a run to that of taskflow", "x"),
        Row("cpu_to_taskiq", "the same of taskiq", "x"),
    ),
    measure=measure,
)
