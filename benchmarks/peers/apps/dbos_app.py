"""DBOS's side: workflows in one process on SQLite, enqueued by its client. Run as a module, this is the worker."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Mapping

from dbos import DBOS, DBOSClient

from benchmarks.peers.client import Operation
from benchmarks.peers.marks import BRANCHES, STEPS, Kind, mark

URL = os.environ["BENCH_SQLITE"]
VERSION = "1"
QUEUE = "bench"


@DBOS.step()
async def nothing() -> None:
    """A step's work."""


@DBOS.workflow(name="noop")
async def noop(number: int) -> int:
    mark(Kind.NOOP, number)
    return number


@DBOS.workflow(name="branch")
async def branch(number: int) -> int:
    """What a group consists of."""
    return number


@DBOS.workflow(name="steps")
async def steps(number: int) -> None:
    mark(Kind.STARTED, number)
    for _ in range(STEPS):
        await nothing()
    mark(Kind.ENDED, number)


@DBOS.workflow(name="branches")
async def branches(number: int) -> None:
    await asyncio.gather(*[nothing() for _ in range(BRANCHES)])
    mark(Kind.JOINED, number)


@DBOS.workflow(name="group")
async def group(number: int) -> None:
    handles = [await DBOS.enqueue_workflow_async(QUEUE, branch, item) for item in range(BRANCHES)]
    for handle in handles:
        await handle.get_result()
    mark(Kind.JOINED, number)


@DBOS.workflow(name="timer")
async def timer(number: int, due_s: float) -> None:
    await DBOS.sleep_async(max(0.0, due_s - time.time()))
    mark(Kind.WOKEN, number)


@DBOS.workflow(name="wait")
async def wait(number: int) -> None:
    mark(Kind.WAITING, number)
    if await DBOS.recv_async(timeout_seconds=600) is not None:
        mark(Kind.RESUMED, number)


def connect() -> Mapping[str, Operation]:
    client = DBOSClient(system_database_url=URL)

    def enqueue(name: str, *arguments: object, workflow_id: str) -> None:
        client.enqueue(
            {"queue_name": QUEUE, "workflow_name": name, "workflow_id": workflow_id, "app_version": VERSION},
            *arguments,
        )

    def sender(name: str) -> Operation:
        return lambda number, due_s: enqueue(name, number, workflow_id=f"{name}-{number}")

    return {
        **{name: sender(name) for name in ("noop", "steps", "branches", "group", "wait")},
        "timer": lambda number, due_s: enqueue("timer", number, due_s, workflow_id=f"timer-{number}"),
        "resume": lambda number, due_s: client.send(f"wait-{number}", "go"),
    }


def main() -> None:
    DBOS(config={"name": "bench", "system_database_url": URL, "application_version": VERSION})
    DBOS.launch()
    DBOS.register_queue(QUEUE)
    print("launched", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
