"""The same with Celery: prefork with two processes, on an embedded Valkey like the one that taskflow gets.

Celery is installed into an environment of its own. It runs as its manual recommends: acknowledgement when a task starts (the
default), JSON, results kept in Redis, the scheduling `-O fair` (the default), `worker_prefetch_multiplier` 4 (the default), and
128, which the manual gives as a start for many short tasks.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from benchmarks.machine import cpu_s
from benchmarks.report import Benchmark, Figures, Row, Scale, Unavailable, percentile
from tests.processes import wait_until
from tests.servers import ValkeyServer, spawn

FOLDER = Path(__file__).parent / "celery_side"
VENV = Path(__file__).parent / ".venv-celery"
PYTHON = VENV / "bin" / "python"
PROCESSES = 2
DEADLINE_S = 300.0
BACKEND_DB = 1


def measure(scale: Scale) -> Figures:
    install()
    count = scale.pick(5_000, 500)  # it is the rate that counts, and 20,000 take a minute
    first = drain(count, prefetch=4)
    return {
        "per_s": first["per_s"],
        "per_s_prefetch_128": drain(count, prefetch=128)["per_s"],
        "send_per_s": first["send_per_s"],
        "worker_us": first["worker_us"],
        **latency(scale.pick(500, 20)),
    }


def install() -> None:
    """Make the environment, once. Raises Unavailable when the package index can't be reached."""
    if (VENV / "ready").exists():
        return
    commands = [
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        [str(PYTHON), "-m", "pip", "install", "--quiet", "celery[redis]", "hiredis"],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"Celery can't be installed: {done.stderr.strip()[-200:]}")
    (VENV / ".gitignore").write_text("*\n")
    (VENV / "ready").touch()


def drain(count: int, *, prefetch: int) -> dict[str, float]:
    """The worker is ready and stands still while the tasks are sent; the clock runs from its release to the last result."""
    with server() as valkey, worker(valkey, prefetch=prefetch) as pids:
        results = redis.Redis.from_url(backend_url(valkey))
        run_client(valkey, "latency", 1)  # warms up
        before = int(str(results.dbsize()))
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        sent = run_client(valkey, "send", count)
        cpu_before_s, released_s = cpu_s(pids), time.monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        wait_until(
            lambda: int(str(results.dbsize())) >= before + count,
            what=f"{count:,} results",
            deadline_s=DEADLINE_S,
        )
        took_s = time.monotonic() - released_s
        worker_us = (cpu_s(pids) - cpu_before_s) / count * 1e6
        results.close()
    return {"per_s": count / took_s, "send_per_s": count / sent["send_s"], "worker_us": worker_us}


def latency(count: int) -> dict[str, float]:
    with server() as valkey, worker(valkey, prefetch=4):
        delays_ms = run_client(valkey, "latency", count)["delays_ms"]
    return {"p50_ms": percentile(delays_ms, 50), "p99_ms": percentile(delays_ms, 99)}


@contextmanager
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer(aof=True, appendfsync="everysec") as valkey:
        yield valkey


@contextmanager
def worker(valkey: ValkeyServer, *, prefetch: int) -> Iterator[list[int]]:
    """A Celery worker that is ready; gives the pids of the parent and its processes."""
    command = [
        str(PYTHON), "-m", "celery", "-A", "tasks", "worker", "--pool", "prefork", "--concurrency", str(PROCESSES),
        "--prefetch-multiplier", str(prefetch), "--loglevel", "INFO",
    ]  # fmt: skip
    folder = Path(tempfile.mkdtemp(prefix="taskflow-bench-"))
    log = folder / "log"
    with log.open("wb") as output:
        env = environment(valkey) | {"PYTHONUNBUFFERED": "1"}
        process = spawn(command, env=env, cwd=FOLDER, log=output.fileno())
    try:
        wait_until(lambda: " ready." in log.read_text() or process.poll() is not None, what="Celery's worker")
        if process.poll() is not None:
            raise Unavailable(f"Celery's worker did not start: {log.read_text()[-200:]}")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield [process.pid, *map(int, children)]
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def run_client(valkey: ValkeyServer, *arguments: object) -> Mapping[str, Any]:
    done = subprocess.run(
        [str(PYTHON), "tasks.py", *map(str, arguments)], cwd=FOLDER, env=environment(valkey), stdout=subprocess.PIPE,
        check=True,
    )  # fmt: skip
    told: Mapping[str, Any] = json.loads(done.stdout)
    return told


def environment(valkey: ValkeyServer) -> dict[str, str]:
    return {**os.environ, "BENCH_BROKER": valkey.url, "BENCH_BACKEND": backend_url(valkey)}


def backend_url(valkey: ValkeyServer) -> str:
    return f"redis://127.0.0.1:{valkey.port}/{BACKEND_DB}"


BENCHMARK = Benchmark(
    name="celery",
    rows=(
        Row("per_s", "Celery: no-op tasks drained, prefetch multiplier 4", "tasks/s"),
        Row("per_s_prefetch_128", "prefetch multiplier 128", "tasks/s"),
        Row("send_per_s", "delay, one task a call", "tasks/s"),
        Row("worker_us", "CPU of the worker for a task", "us"),
        Row("p50_ms", "delay called to task started, idle, p50", "ms"),
        Row("p99_ms", "the same, p99", "ms"),
    ),
    measure=measure,
)
