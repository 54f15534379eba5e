"""`python -m benchmarks.soak --runs 1000000`: whether memory levels off, and what is left once the retention is over. Rule S10.1.

70 % no-ops, 20 % with a step, 10 % under a keyed concurrency limit, with a retention of a few seconds. It is no part of
`python -m benchmarks`: it takes minutes, and its figures are slopes.
"""

from __future__ import annotations

import re
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import click

from benchmarks.functions import APP_ID
from benchmarks.harness import PREFIX, Stack, Worker
from benchmarks.machine import pss_mb
from taskflow.event import Event
from tests.processes import REPOSITORY, TaskflowProcess

LIST = 100  # events of one send
SHARES = (("noop", 70), ("warm", 20), ("limited", 10))  # of those
TENANTS = 20
IN_FLIGHT = (
    5_000  # events that the producer is ahead of the runs that have ended, so that no backlog is measured
)
SAMPLE_S = 1.0
LINES = 10  # of the history that is printed
LEFT_S = 60.0  # after the last run, until nothing may be left
# Keys that stand for runs, events and what these wait for. Others are there once, or once a function or process.
OF_RUNS = frozenset(
    {
        "run", "steps", "joins", "batch", "batching", "debounce", "singleton", "rate", "idempotency", "ready", "lanes",
        "blocked", "places", "throttle", "held", "queue", "claims", "timers", "waits", "event", "events", "event_id",
        "outbox", "runs", "expiry", "dead_letters", "event_names", "signals", "waitpaths",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory (MB of 10^6 bytes) after `runs` runs."""

    runs: int
    worker_mb: float
    store_mb: float
    keys: int


class SoakStack(Stack):
    """A stack whose processes keep history for a short time."""

    def __init__(self, retention: str) -> None:
        super().__init__()
        self.retention = retention

    @contextmanager
    def command(self, *arguments: str) -> Iterator[TaskflowProcess]:
        env = {
            "TASKFLOW_BROKER": self.server.url,
            "TASKFLOW_STORE": self.server.url,
            "TASKFLOW_RETENTION": self.retention,
        }
        with TaskflowProcess(*arguments, cwd=REPOSITORY, env=env) as process:
            yield process
            process.stop()

    def ended(self) -> int:
        """Runs that have ended so far, those that were removed since included."""
        spans = [str(span) for span in self.redis.zrange(f"{PREFIX}expiry", 0, -1)]
        with self.redis.pipeline(transaction=True) as pipeline:
            # One for each event, and each starts one run.
            pipeline.get(f"{PREFIX}seq")
            for slug, _ in SHARES:
                pipeline.zcard(f"{PREFIX}runs:{APP_ID}/{slug}")
            for span in spans:
                pipeline.llen(f"{PREFIX}expiry:{span}")
            routed, *counts = [int(count or 0) for count in pipeline.execute()]
        known, kept = counts[: len(SHARES)], counts[len(SHARES) :]
        return routed - (sum(known) - sum(kept))

    def key_counts(self) -> Counter[str]:
        """How many keys there are of each kind: the first part of their name."""
        return Counter(kind_of(key) for key in self.redis.scan_iter(count=1_000))


def kind_of(key: str) -> str:
    return re.split(r"[:\x1f]", key.removeprefix(PREFIX))[0] if key.startswith(PREFIX) else "broker"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--runs", default=1_000_000, show_default=True, type=click.IntRange(min=LIST))
@click.option("--retention", default="3s", show_default=True, help="Of finished runs and events.")
@click.option(
    "--max-slope", default=0.5, show_default=True, help="MB per 100,000 runs, of worker and of store."
)
def main(runs: int, retention: str, max_slope: float) -> None:
    """Run RUNS runs, and print how memory went and which keys are left.

    Exits with 1 when memory still grows in the second half, or when keys of runs are left.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # Not warmed up: that counts runs that have finished, and these are gone soon.
    with SoakStack(retention) as stack, stack.beat(), stack.worker(processes=2, is_warm=False) as worker:
        started_s = time.monotonic()
        samples = soak(stack, worker, runs)
        took_s = time.monotonic() - started_s
        left = wait_for_removal(stack)
        last = take_sample(stack, worker, runs)
    click.echo(f"{runs:,} runs in {took_s:.0f} s: {runs / took_s:,.0f} runs/s")
    click.echo(history(samples, last))
    problems = judge(samples, left, max_slope)
    click.echo("\nkeys left: " + ", ".join(f"{kind} {count}" for kind, count in sorted(left.items())))
    if problems:
        click.echo("\n".join(problems))
        sys.exit(1)


def soak(stack: SoakStack, worker: Worker, runs: int) -> list[Sample]:
    """Send all runs at the speed at which they are executed; samples on the way."""
    samples: list[Sample] = []
    first, sent = stack.ended(), 0
    next_s = time.monotonic()
    while (done := stack.ended() - first) < runs:
        while sent < runs and sent - done < IN_FLIGHT:
            stack.producer.send(events(sent))
            sent += LIST
        if time.monotonic() >= next_s:
            next_s += SAMPLE_S
            samples += take_sample(stack, worker, done)
        time.sleep(0.005)
    return samples


def events(first: int) -> list[Event]:
    """A list in the mix of SHARES."""
    slugs = [slug for slug, share in SHARES for _ in range(share * LIST // 100)]
    return [
        Event(f"bench/{slug}", {"n": first + place, "tenant": place % TENANTS, "rank": place % 7})
        for place, slug in enumerate(slugs)
    ]


def take_sample(stack: SoakStack, worker: Worker, runs: int) -> list[Sample]:
    """One sample, or none while the store rewrites its file: that takes memory of its own for a while."""
    info = stack.redis.info()
    if info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]:
        return []
    return [Sample(runs, pss_mb(worker.pids), info["used_memory"] / 1e6, stack.redis.dbsize())]


def wait_for_removal(stack: SoakStack) -> Counter[str]:
    """The keys that are left when none of a run is, or after LEFT_S."""
    give_up_s = time.monotonic() + LEFT_S
    while OF_RUNS & (left := stack.key_counts()).keys() and time.monotonic() < give_up_s:
        time.sleep(0.5)
    return left


def growth(samples: Sequence[Sample]) -> dict[str, float | None]:
    """MB per 100,000 runs over the second half; None with too few samples to say.

    The store keeps more history or less, by its trims and the speed of the runs, and the number of its keys tells how much. So its
    growth is what runs add at an equal number of keys: the slope of what keys explain neither of memory nor of runs.
    """
    half = [sample for sample in samples if sample.runs >= samples[-1].runs / 2]
    if len(half) < 4:
        return {"worker": None, "store": None}
    runs = [sample.runs / 1e5 for sample in half]
    keys = [float(sample.keys) for sample in half]
    store_mb = unexplained([sample.store_mb for sample in half], keys)
    return {
        "worker": statistics.linear_regression(runs, [sample.worker_mb for sample in half]).slope,
        "store": statistics.linear_regression(unexplained(runs, keys), store_mb).slope,
    }


def unexplained(values: Sequence[float], by: Sequence[float]) -> list[float]:
    """What is left of values once their linear dependence on others is taken off."""
    if len(set(by)) == 1:
        return list(values)
    fit = statistics.linear_regression(by, values)
    return [value - fit.intercept - fit.slope * other for value, other in zip(values, by, strict=True)]


def history(samples: Sequence[Sample], last: Sequence[Sample]) -> str:
    """Some of the samples, what there is once all is removed, and the growth."""
    lines = ["\n    runs   worker MB   store MB     keys"]
    lines += [line(sample) for sample in samples[:: max(1, len(samples) // LINES)]]
    lines += [f"{line(each)}   after the retention" for each in last]
    lines.append("\ngrowth in the second half, MB per 100,000 runs (of the store at equal keys):")
    for what, value in growth(samples).items():
        lines.append(f"  {what:7} {'too few samples: more runs' if value is None else f'{value:+.2f}'}")
    return "\n".join(lines)


def line(sample: Sample) -> str:
    return f"{sample.runs:8,}  {sample.worker_mb:10.1f} {sample.store_mb:10.1f} {sample.keys:8,}"


def judge(samples: Sequence[Sample], left: Counter[str], max_slope: float) -> list[str]:
    problems = [
        f"problem: memory of the {what} grows by {value:.2f} MB per 100,000 runs"
        for what, value in growth(samples).items()
        if value is not None and value > max_slope
    ]
    of_runs = sorted(OF_RUNS & left.keys())
    if of_runs:
        problems.append(
            f"problem: left after the retention: {', '.join(f'{left[kind]} {kind}' for kind in of_runs)}"
        )
    return problems


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.soak")
