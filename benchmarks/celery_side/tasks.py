"""The Celery app that taskflow is compared with, and its client; runs in an environment of its own (see versus_celery.py).

The client prints as JSON what it measured: `tasks.py send COUNT` or `tasks.py latency COUNT`.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time

from celery import Celery

WARM_UP = 20

app = Celery("bench", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_BACKEND"])


def return_number(number: int) -> int:
    return number


def return_clock() -> int:
    """When the task started: ns of the clock that all processes of a machine share."""
    return time.monotonic_ns()


noop = app.task(name="noop")(return_number)
stamp = app.task(name="stamp")(return_clock)


def send(count: int) -> dict[str, object]:
    noop.apply_async((0,), ignore_result=True)  # connects
    started_s = time.perf_counter()
    for number in range(count):
        noop.delay(number)
    return {"send_s": time.perf_counter() - started_s}


def latency(count: int) -> dict[str, object]:
    delays_ms = []
    for number in range(count + WARM_UP):
        sent_ns = time.monotonic_ns()
        started_ns = stamp.delay().get(timeout=10)
        if number >= WARM_UP:
            delays_ms.append((started_ns - sent_ns) / 1e6)
        time.sleep(random.uniform(0.004, 0.012))
    return {"delays_ms": delays_ms}


if __name__ == "__main__":
    measure = {"send": send, "latency": latency}[sys.argv[1]]
    sys.stdout.write(json.dumps(measure(int(sys.argv[2]))))
