"""The figures that are compared, and what one measurement of all peers is as data."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from benchmarks.peers.marks import BRANCHES, STEPS


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table; `work` is the name under which work.py measures it."""

    key: str
    work: str
    says: str
    unit: str
    is_more_better: bool


FIGURES = (
    Figure("drained_per_s", "drain", "Empty tasks drained, results stored", "tasks/s", True),
    Figure("sent_per_s", "drain", "Sent one by one, from one thread", "tasks/s", True),
    Figure("live_per_s", "live", "Sent one by one and executed meanwhile", "tasks/s", True),
    Figure("worker_us", "drain", "CPU of the workers for a task", "us", False),
    Figure("server_us", "drain", "CPU of the store or server for a task", "us", False),
    Figure("latency_p50_ms", "latency", "Sent to started, idle, p50", "ms", False),
    Figure("latency_p99_ms", "latency", "Sent to started, idle, p99", "ms", False),
    Figure("step_ms", "steps", f"A durable step of {STEPS} in a row, idle", "ms", False),
    Figure("steps_per_s", "load", "Durable steps under load", "steps/s", True),
    Figure("branches_ms", "branches", f"{BRANCHES} parallel steps of a run, joined", "ms", False),
    Figure("group_ms", "group", f"{BRANCHES} tasks sent, executed and joined", "ms", False),
    Figure("timers_p50_ms", "timers", "Timers due at once: late by, p50", "ms", False),
    Figure("timers_p99_ms", "timers", "Timers due at once: late by, p99", "ms", False),
    Figure("resumed_per_s", "waits", "Waiting runs resumed by an event each", "runs/s", True),
    Figure("pss_mb", "footprint", "Memory of an idle deployment", "MB", False),
    Figure("server_pss_mb", "footprint", "Memory of the idle store or server", "MB", False),
    Figure("idle_cpu_percent", "footprint", "CPU of an idle deployment", "% of a core", False),
)


class PeerTold(TypedDict):
    """`problem`: why it is left out. `failed`: works that did not end, and why. `figures`: a value a repetition."""

    title: str
    versions: Mapping[str, str]
    flags: Sequence[str]
    amounts: Mapping[str, int]
    works: Sequence[str]
    notes: Sequence[tuple[str, str]]
    problem: str
    failed: dict[str, str]
    figures: dict[str, list[float]]


class Told(TypedDict):
    """One measurement; `machine` as `benchmarks.machine.facts` gives it, as text."""

    measured: str
    is_quick: bool
    repeat: int
    took_s: float
    machine: Mapping[str, str]
    peers: dict[str, PeerTold]


def measured_peers(told: Told) -> dict[str, PeerTold]:
    """Those with figures, in their order."""
    return {name: peer for name, peer in told["peers"].items() if peer["figures"]}


def medians(told: Told, figure: Figure) -> dict[str, float]:
    """By peer, for those that have it."""
    return {
        name: statistics.median(peer["figures"][figure.key])
        for name, peer in told["peers"].items()
        if peer["figures"].get(figure.key)
    }


def best(values: Mapping[str, float], figure: Figure) -> float:
    return max(values.values()) if figure.is_more_better else min(values.values())
