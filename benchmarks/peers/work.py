"""The works: what each peer is given, in what order, and how the figures come about.

All times are taken from the marks that the tasks write (see marks.py), so no peer is favoured by what it can tell of itself.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.machine import cpu_s, pss_mb
from benchmarks.peers.client import Answer
from benchmarks.peers.marks import STEPS, Kind
from benchmarks.peers.peer import Client, Deployment, Peer, Site
from benchmarks.report import Scale, percentile

DEADLINE_S = 60.0  # a work that takes longer is given up
GAP_MS = (5.0, 25.0)  # between two tasks on an idle system
SETTLE_S = 1.0
POLL_S = 0.002
IDLE_S = 3.0  # how long the CPU of an idle system is watched
FAN_OUT_S = 2.0  # fan-outs go on for this long
LEAD_S = 2.0  # about this long after the last timer was set, all are due


@dataclass(slots=True, kw_only=True)
class Measured:
    """One repetition: figures by the keys of figures.ROWS, and why a work failed, by its name."""

    figures: dict[str, float] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


class Bench:
    """One peer, running, in one repetition."""

    def __init__(self, peer: Peer, scale: Scale, site: Site, deployment: Deployment, client: Client) -> None:
        self.peer = peer
        self.scale = scale
        self.marks = site.marks
        self.deployment = deployment
        self.client = client
        self.numbered = 0

    def numbers(self, count: int) -> range:
        """Numbers that no other work has."""
        self.numbered += count
        return range(self.numbered - count, self.numbered)

    def call(
        self, operation: str, numbers: range, *, gap_ms: tuple[float, float] | None = None, due_s: float = 0.0
    ) -> Answer:
        return self.client.call(operation, numbers.start, len(numbers), gap_ms=gap_ms, due_s=due_s)

    def wait_for(self, kind: Kind, numbers: range, *, poll_s: float = 0.02) -> list[int]:
        """Wait until each number has its mark; give them (monotonic ns). Raises TimeoutError."""
        give_up_s = time.monotonic() + DEADLINE_S
        while missing := self.marks.missing(kind, numbers):
            if time.monotonic() > give_up_s:
                raise TimeoutError(f"{missing:,} of {len(numbers):,} not done within {DEADLINE_S:g} s")
            time.sleep(poll_s)
        return self.marks.of(kind, numbers)


@contextmanager
def running(peer: Peer, scale: Scale) -> Iterator[Bench]:
    """The peer on a store of its own, warm. Raises RuntimeError when it does not start."""
    with Site() as site, peer.start(site) as deployment, site.client(peer) as client:
        bench = Bench(peer, scale, site, deployment, client)
        warm = bench.numbers(100)
        bench.call("noop", warm)
        bench.wait_for(Kind.NOOP, warm)
        yield bench


def measure(peer: Peer, scale: Scale) -> Measured:
    """One repetition of all works that the peer can do. Raises RuntimeError when it does not start."""
    measured = Measured()
    with running(peer, scale) as bench:
        for name, work in WORKS.items():
            if name not in peer.works:
                continue
            try:
                measured.figures |= work(bench)
            except Exception as error:  # the other works are measured all the same
                traceback.print_exc()
                measured.problems[name] = str(error) or type(error).__name__
        measured.figures["repeats"] = bench.marks.repeats
    return measured


def footprint(bench: Bench) -> dict[str, float]:
    """Nothing to do: memory of the deployment's processes (what they share counted once), and their CPU."""
    deployment = bench.deployment
    time.sleep(SETTLE_S)
    pids = deployment.pids
    before_s, started_s = cpu_s(pids), time.monotonic()
    time.sleep(bench.scale.pick(int(IDLE_S), 1))
    busy_percent = (cpu_s(pids) - before_s) / (time.monotonic() - started_s) * 100
    figures = {"pss_mb": pss_mb(pids), "idle_cpu_percent": busy_percent}
    if deployment.servers:
        figures["server_pss_mb"] = pss_mb(deployment.servers)
    return figures


def latency(bench: Bench) -> dict[str, float]:
    """From the call that sends to the task's first line, one task each 5 to 25 ms."""
    numbers = bench.numbers(bench.scale.pick(200, 20))
    sent_ns = bench.call("noop", numbers, gap_ms=GAP_MS)["sent_ns"]
    began_ns = bench.wait_for(Kind.NOOP, numbers)
    delays_ms = [(began - sent) / 1e6 for began, sent in zip(began_ns, sent_ns, strict=True)]
    return {"latency_p50_ms": percentile(delays_ms, 50), "latency_p99_ms": percentile(delays_ms, 99)}


def steps(bench: Bench) -> dict[str, float]:
    """Runs of ten steps, one after the other: from the first line of the handler to the line after the last step."""
    numbers = bench.numbers(bench.scale.pick(60, 5))
    took_ms: list[float] = []
    give_up_s = time.monotonic() + bench.scale.pick(2, 1)
    for number in numbers:
        one = range(number, number + 1)
        bench.call("steps", one)
        (ended_ns,) = bench.wait_for(Kind.ENDED, one, poll_s=POLL_S)
        (started_ns,) = bench.marks.of(Kind.STARTED, one)
        took_ms.append((ended_ns - started_ns) / 1e6)
        if time.monotonic() > give_up_s:
            break
    return {"step_ms": percentile(took_ms, 50) / STEPS}


def branches(bench: Bench) -> dict[str, float]:
    return {"branches_ms": fan_out(bench, "branches")}


def group(bench: Bench) -> dict[str, float]:
    return {"group_ms": fan_out(bench, "group")}


def fan_out(bench: Bench, operation: str) -> float:
    """From the call that sends to the line after the join, p50; at least three times, one after the other."""
    took_ms: list[float] = []
    give_up_s = time.monotonic() + bench.scale.pick(int(FAN_OUT_S), 1)
    while len(took_ms) < 3 or (time.monotonic() < give_up_s and len(took_ms) < 50):
        one = bench.numbers(1)
        (sent_ns,) = bench.call(operation, one)["sent_ns"]
        (joined_ns,) = bench.wait_for(Kind.JOINED, one, poll_s=POLL_S)
        took_ms.append((joined_ns - sent_ns) / 1e6)
    return percentile(took_ms, 50)


def timers(bench: Bench) -> dict[str, float]:
    """Many timers that are due at the same moment, all set before: how late what follows them goes on."""
    numbers = bench.numbers(bench.scale.pick(bench.peer.amounts.timers, 50))
    few = bench.numbers(max(1, len(numbers) // 20))  # tell how long it takes to set one
    tried = bench.call("timer", few, due_s=time.time())
    bench.wait_for(Kind.WOKEN, few)
    each_s = (tried["ended_ns"] - tried["sent_ns"][0]) / 1e9 / len(few)
    due_s = time.time() + LEAD_S + 1.5 * each_s * len(numbers)
    due_ns = time.monotonic_ns() + int((due_s - time.time()) * 1e9)
    set_ns = bench.call("timer", numbers, due_s=due_s)["ended_ns"]
    if set_ns > due_ns:
        raise RuntimeError(f"{len(numbers):,} timers could not be set before they were due")
    late_ms = [(woken_ns - due_ns) / 1e6 for woken_ns in bench.wait_for(Kind.WOKEN, numbers)]
    return {"timers_p50_ms": percentile(late_ms, 50), "timers_p99_ms": percentile(late_ms, 99)}


def waits(bench: Bench) -> dict[str, float]:
    """Runs that wait for an event each, which then come one by one as fast as they can."""
    numbers = bench.numbers(bench.scale.pick(bench.peer.amounts.waits, 50))
    bench.call("wait", numbers)
    bench.wait_for(Kind.WAITING, numbers)
    time.sleep(SETTLE_S)  # the mark comes before the wait is stored
    first_ns = bench.call("resume", numbers)["sent_ns"][0]
    resumed_ns = bench.wait_for(Kind.RESUMED, numbers)
    return {"resumed_per_s": len(numbers) / ((max(resumed_ns) - first_ns) / 1e9)}


def drain(bench: Bench) -> dict[str, float]:
    """Tasks that lie ready when the workers are released: the clock runs from then to the last task's line."""
    deployment = bench.deployment
    numbers = bench.numbers(bench.scale.pick(bench.peer.amounts.drained, 100))
    with deployment.hold():
        answer = bench.call("noop", numbers)
        pids = deployment.pids
        worker_s, server_s = cpu_s(pids), cpu_s(deployment.servers)
        released_ns = time.monotonic_ns()
    ended_ns = max(bench.wait_for(Kind.NOOP, numbers))
    time.sleep(0.2)  # the last results are stored
    figures = {
        "drained_per_s": len(numbers) / ((ended_ns - released_ns) / 1e9),
        "sent_per_s": len(numbers) / ((answer["ended_ns"] - answer["sent_ns"][0]) / 1e9),
        "worker_us": (cpu_s(pids) - worker_s) / len(numbers) * 1e6,
    }
    if deployment.servers:
        figures["server_us"] = (cpu_s(deployment.servers) - server_s) / len(numbers) * 1e6
    return figures


def live(bench: Bench) -> dict[str, float]:
    """Tasks that are executed while they are sent: the clock runs from the first send to the last task's line."""
    numbers = bench.numbers(bench.scale.pick(bench.peer.amounts.live, 100))
    sent_ns = bench.call("noop", numbers)["sent_ns"]
    ended_ns = max(bench.wait_for(Kind.NOOP, numbers))
    return {"live_per_s": len(numbers) / ((ended_ns - sent_ns[0]) / 1e9)}


def load(bench: Bench) -> dict[str, float]:
    """Runs of ten steps that lie ready when the workers are released."""
    numbers = bench.numbers(bench.scale.pick(bench.peer.amounts.loaded_runs, 10))
    with bench.deployment.hold():
        bench.call("steps", numbers)
        released_ns = time.monotonic_ns()
    ended_ns = max(bench.wait_for(Kind.ENDED, numbers))
    return {"steps_per_s": len(numbers) * STEPS / ((ended_ns - released_ns) / 1e9)}


# The idle works first, then those that leave thousands of records behind.
WORKS: dict[str, Callable[[Bench], dict[str, float]]] = {
    "footprint": footprint,
    "latency": latency,
    "steps": steps,
    "branches": branches,
    "group": group,
    "timers": timers,
    "waits": waits,
    "load": load,
    "live": live,
    "drain": drain,
}
DURABLE = frozenset(WORKS)
QUEUE = frozenset({"footprint", "latency", "group", "timers", "live", "drain"})
