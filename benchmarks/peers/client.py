"""The process that sends: it imports the app of a peer, and does what it is told on stdin, a line of JSON a request.

    python -m benchmarks.peers.client benchmarks.peers.apps.celery_app
    {"operation": "noop", "first": 0, "count": 2, "gap_ms": [5, 20], "due_s": 0}
    {"sent_ns": [1016, 8123], "ended_ns": 9001}

All peers are sent to one by one, from one thread; where the client of a peer is asynchronous, from one event loop.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import random
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypedDict

Operation = Callable[[int, float], Any]  # the number, and when a timer is due (s since the epoch)


class Request(TypedDict):
    """Call the operation for each number, with a random pause between two calls if `gap_ms` gives its limits."""

    operation: str
    first: int
    count: int
    gap_ms: tuple[float, float] | None
    due_s: float


class Answer(TypedDict):
    """When each call began, and when the last had ended (monotonic ns); or what went wrong."""

    sent_ns: list[int]
    ended_ns: int
    error: str


async def repeat_async(operation: Operation, request: Request) -> list[int]:
    sent_ns: list[int] = []
    for number in range(request["first"], request["first"] + request["count"]):
        sent_ns.append(time.monotonic_ns())
        await operation(number, request["due_s"])
        await asyncio.sleep(pause_s(request))
    return sent_ns


def repeat(operation: Operation, request: Request) -> list[int]:
    sent_ns: list[int] = []
    for number in range(request["first"], request["first"] + request["count"]):
        sent_ns.append(time.monotonic_ns())
        operation(number, request["due_s"])
        if request["gap_ms"]:
            time.sleep(pause_s(request))
    return sent_ns


def pause_s(request: Request) -> float:
    return random.uniform(*request["gap_ms"]) / 1000 if request["gap_ms"] else 0.0


def serve(operations: Mapping[str, Operation], runner: asyncio.Runner) -> None:
    for line in sys.stdin:
        request: Request = json.loads(line)
        operation = operations[request["operation"]]
        answer = Answer(sent_ns=[], ended_ns=0, error="")
        try:
            if inspect.iscoroutinefunction(operation):
                answer["sent_ns"] = runner.run(repeat_async(operation, request))
            else:
                answer["sent_ns"] = repeat(operation, request)
        except Exception as error:  # the other works go on
            traceback.print_exc()
            answer["error"] = f"{type(error).__name__}: {error}"
        answer["ended_ns"] = time.monotonic_ns()
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def main(module: str) -> None:
    """`connect` of the app's module gives its operations; it may be a coroutine function."""
    connect = import_module(module).connect
    with asyncio.Runner() as runner:
        operations = runner.run(connect()) if inspect.iscoroutinefunction(connect) else connect()
        serve(operations, runner)


if __name__ == "__main__":
    main(sys.argv[1])
