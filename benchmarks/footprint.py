"""What a worker with nothing to do costs: memory, start, CPU, commands to the store."""

from __future__ import annotations

import time
from collections import Counter

from benchmarks.harness import Stack
from benchmarks.machine import cpu_s, pss_mb
from benchmarks.report import Benchmark, Figures, Row, Scale, at_most


def measure(scale: Scale) -> Figures:
    watch_s = scale.pick(10, 2)
    with Stack() as stack:
        started_s = time.monotonic()
        with stack.worker(processes=1, is_warm=False) as worker:
            ready_s = time.monotonic() - started_s
            stack.wait_until(lambda: len(worker.pids) == 2, what="one child")
            stack.warm_up(1)
            time.sleep(2)  # what follows the start is over
            memory_mb = pss_mb(worker.pids)
            busy_percent, busiest, total = watch(stack, worker.pids, watch_s)
            figures = {
                "pss_mb": memory_mb,
                "ready_s": ready_s,
                "cpu_percent": busy_percent,
                "commands_per_s": busiest,
                "all_commands_per_s": total,
            }
            with stack.beat() as beat:
                time.sleep(2)
                beat_percent, beat_busiest, _ = watch(stack, [beat.pid], watch_s)
                figures |= {
                    "beat_pss_mb": pss_mb([beat.pid]),
                    "beat_cpu_percent": beat_percent,
                    "beat_commands_per_s": beat_busiest,
                }
    return figures


def watch(stack: Stack, pids: list[int], seconds: float) -> tuple[float, float, float]:
    """CPU in percent of a core; commands a second of the busiest connection; of all connections."""
    cpu_before_s, started_s = cpu_s(pids), time.monotonic()
    sent = commands(stack, seconds)
    took_s = time.monotonic() - started_s
    cpu = (cpu_s(pids) - cpu_before_s) / took_s * 100
    return cpu, max(sent.values(), default=0) / took_s, sum(sent.values()) / took_s


def commands(stack: Stack, seconds: float) -> Counter[str]:
    """How many commands each connection sends in that time. A script counts once, whatever it calls."""
    sent: Counter[str] = Counter()
    give_up_s = time.monotonic() + seconds
    with stack.redis.monitor() as monitor:  # type: ignore[no-untyped-call]
        while (left_s := give_up_s - time.monotonic()) > 0:
            if monitor.connection.can_read(timeout=left_s):
                seen = monitor.next_command()
                if seen["client_type"] != "lua":
                    sent[f"{seen['client_address']}:{seen['client_port']}"] += 1
    return sent


BENCHMARK = Benchmark(
    name="footprint",
    rows=(
        Row("pss_mb", "idle worker: supervisor and 1 child, PSS", "MB", at_most(80)),
        Row("ready_s", "start of the command to 'is ready'", "s", at_most(0.7)),
        Row("cpu_percent", "idle CPU of supervisor and child", "% of a core", at_most(1)),
        Row("commands_per_s", "idle: commands to the store, busiest connection", "1/s", at_most(1)),
        Row("all_commands_per_s", "idle: commands to the store, all connections of the worker", "1/s"),
        Row("beat_pss_mb", "idle beat, PSS", "MB"),
        Row("beat_cpu_percent", "idle CPU of beat", "% of a core", at_most(1)),
        Row("beat_commands_per_s", "idle beat: commands to the store, busiest connection", "1/s"),
    ),
    measure=measure,
)
