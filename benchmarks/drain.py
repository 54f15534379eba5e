"""No-op functions: how many runs a second two processes drain, each with its durable record and result."""

from __future__ import annotations

import time

from benchmarks.harness import RunRecord, Stack, lists_of
from benchmarks.machine import cpu_s
from benchmarks.report import Benchmark, Figures, Row, Scale, at_least
from taskflow.event import Event


def measure(scale: Scale) -> Figures:
    count = scale.pick(20_000, 1_000)
    figures = dict(measure_warm(count, list_size=1))
    figures["per_s_lists"] = measure_warm(count, list_size=100)["per_s"]
    figures["per_s_cold"] = measure_cold(count)
    figures["per_s_one"] = measure_warm(count, list_size=1, processes=1)["per_s"]
    return figures


def measure_warm(count: int, *, list_size: int, processes: int = 2) -> Figures:
    """The processes are ready and stand still while the events are sent; the clock runs from their release."""
    with Stack() as stack, stack.system(processes=processes) as worker:
        with worker.held():
            send(stack, count, list_size=list_size)
            stack.redis.config_resetstat()
            pids = worker.pids
            worker_cpu_s, server_cpu_s = cpu_s(pids), cpu_s([stack.server.pid])
            released_ms = time.time() * 1000
        stack.wait_for_finished(count)
        worker_us = (cpu_s(pids) - worker_cpu_s) / count * 1e6
        server_us = (cpu_s([stack.server.pid]) - server_cpu_s) / count * 1e6
        records = stack.records("noop")
        check(records, count)
        wall_s = (max(record.ended_ms for record in records) - released_ms) / 1000
        children = [record.child for record in records]
        share = max(children.count(child) for child in set(children)) / count
    return {
        "per_s": count / wall_s,
        "worker_us": worker_us,
        "server_us": server_us,
        "larger_share": share * 100,
    }


def measure_cold(count: int) -> float:
    """The events are sent first, then the worker is started; the clock runs from the first run's start."""
    with Stack() as stack:
        send(stack, count, list_size=1)
        with stack.beat(), stack.worker(processes=2, is_warm=False):
            stack.wait_for_finished(count)
            records = stack.records("noop")
    check(records, count)
    first_ms = min(record.started_ms for record in records)
    return count / (max(record.ended_ms for record in records) - first_ms) * 1000


def send(stack: Stack, count: int, *, list_size: int) -> None:
    if list_size == 1:
        for number in range(count):
            stack.producer.send("bench/noop", {"n": number})
        return
    for events in lists_of([Event("bench/noop", {"n": number}) for number in range(count)], list_size):
        stack.producer.send(events)


def check(records: list[RunRecord], count: int) -> None:
    """Every event has its run, and every run its result."""
    if sorted(record.output for record in records) != list(range(count)):
        raise RuntimeError(
            f"expected {count:,} runs with a result each, got {len(records):,}, or wrong results"
        )


BENCHMARK = Benchmark(
    name="drain",
    rows=(
        Row("per_s", "no-op runs drained, sent one by one, both processes ready", "runs/s", at_least(12_000)),
        Row("per_s_lists", "the same, sent in lists of 100", "runs/s", at_least(12_000)),
        Row(
            "per_s_cold",
            "sent one by one, then the worker starts; from the first run on",
            "runs/s",
            at_least(12_000),
        ),
        Row("per_s_one", "as the first, with one process", "runs/s"),
        Row("worker_us", "CPU of the worker for a run", "us"),
        Row("server_us", "CPU of Valkey for a run", "us"),
        Row("larger_share", "part of the runs that the busier process got", "%"),
    ),
    measure=measure,
)
