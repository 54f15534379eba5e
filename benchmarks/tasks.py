"""Empty tasks with a stored result, beside empty functions, in turn; and how many calls a second one thread makes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks import drain
from benchmarks.harness import Stack
from benchmarks.machine import cpu_s
from benchmarks.report import Benchmark, Figures, Row, Scale, at_least
from taskflow.app import TaskFlow
from taskflow.tasks.task import Task


def measure(scale: Scale) -> Figures:
    count = scale.pick(20_000, 1_000)
    tasks = measure_tasks(count)
    functions = drain.measure_warm(count, list_size=1)
    return {
        **tasks,
        "part_per_s": tasks["per_s"] / functions["per_s"] * 100,
        "part_us": (tasks["worker_us"] + tasks["server_us"])
        / (functions["worker_us"] + functions["server_us"])
        * 100,
        **measure_calls(scale.pick(10_000, 500)),
    }


def empty_task(app: TaskFlow) -> Task[[int], Any]:
    """The sender's half of the task in `benchmarks.functions`."""

    @app.task(id="noop-task")
    async def noop_task(n: int) -> int:
        return n

    return noop_task


def measure_tasks(count: int) -> Figures:
    """The processes are ready and stand still while the calls are made; the clock runs from their release."""
    with Stack() as stack, stack.system(processes=2) as worker:
        task = empty_task(stack.producer)
        with worker.held():
            task.many((n,) for n in range(count))
            pids = worker.pids
            worker_cpu_s, server_cpu_s = cpu_s(pids), cpu_s([stack.server.pid])
            released_ms = time.time() * 1000
        stack.wait_for_finished(count)
        worker_us = (cpu_s(pids) - worker_cpu_s) / count * 1e6
        server_us = (cpu_s([stack.server.pid]) - server_cpu_s) / count * 1e6
        records = stack.records("noop-task")
        drain.check(records, count)
        wall_s = (max(record.ended_ms for record in records) - released_ms) / 1000
    return {"per_s": count / wall_s, "worker_us": worker_us, "server_us": server_us}


def measure_calls(count: int) -> Figures:
    with Stack() as stack:
        task = empty_task(stack.producer)
        task.delay(0)  # connects
        started_s = time.perf_counter()
        for n in range(count):
            task.delay(n)
        delay_s = time.perf_counter() - started_s
        started_s = time.perf_counter()
        task.many((n,) for n in range(5 * count))
        many_s = time.perf_counter() - started_s
        async_s = asyncio.run(call_async(task, count))
    return {"delay": count / delay_s, "many": 5 * count / many_s, "adelay": count / async_s}


async def call_async(task: Task[[int], Any], count: int) -> float:
    """100 coroutines at a time, as in a busy web server."""
    await task.adelay(0)
    started_s = time.perf_counter()
    for start in range(0, count, 100):
        await asyncio.gather(*[task.adelay(start + n) for n in range(100)])
    return time.perf_counter() - started_s


BENCHMARK = Benchmark(
    name="tasks",
    rows=(
        Row("per_s", "empty tasks executed, with their results, both processes ready", "runs/s"),
        Row("part_per_s", "of the rate of empty functions in the same turn", "%", at_least(95)),
        Row("worker_us", "CPU of the worker for a task", "us"),
        Row("server_us", "CPU of Valkey for a task", "us"),
        Row("part_us", "of the CPU of worker and Valkey for an empty function", "%"),
        Row("delay", "delay, one call at a time", "calls/s"),
        Row("adelay", "adelay, 100 coroutines", "calls/s"),
        Row("many", "many", "calls/s"),
    ),
    measure=measure,
)
