"""After each test of a rule: what did it leave behind?"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from taskflow.engine.operation import Operation
from taskflow.handle import FINAL, RunStatus
from taskflow.store.address import parse_store_url
from taskflow.store.client import StoreClient
from tests.waiting import until

# What belongs to live runs only. Hints, nudges, workers and history stay.
OF_LIVE_RUNS = ("timers", "ready:", "queue:", "claims:", "waits:", "waitpaths:", "outbox", "outbox:events")
# How the log lines end that tell of a bug.
OF_BUGS = (
    "the engine failed",
    "the executor failed",
    "publishing failed",
    "routing a message failed; it is kept: taskflow dead-letters",
)


@pytest.fixture(autouse=True)
async def no_leaks(valkey_url: str, namespace: str) -> AsyncIterator[None]:
    """Fails a test that leaves keys of final runs, asyncio tasks or threads of taskflow behind."""
    threads_before = set(threading.enumerate())
    tasks_before = asyncio.all_tasks()
    yield
    client = StoreClient(parse_store_url(valkey_url))
    await client.connect()
    leftovers = await find_leftovers(client, f"{namespace}:{{0}}:")
    await client.close()
    assert not leftovers, f"all runs are final, but these keys are left: {leftovers}"
    await until(
        lambda: not asyncio.all_tasks() - tasks_before - {asyncio.current_task()},
        description="the end of all asyncio tasks",
    )
    await until(
        lambda: (
            not [
                thread
                for thread in set(threading.enumerate()) - threads_before
                if thread.name.startswith("taskflow")
            ]
        ),
        description="the end of taskflow's threads",
    )


@pytest.fixture
def no_bugs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails a test in which the engine met an error of its own, though it may have survived it."""
    yield
    met = [
        record.getMessage() for record in caplog.get_records("call") if record.getMessage().endswith(OF_BUGS)
    ]
    assert not met, f"errors of the engine itself: {met}"


async def find_leftovers(client: StoreClient, prefix: str) -> list[str]:
    """Keys that only live runs may have, when no run is live; and operations of final runs that still wait."""
    keys = [key.decode() for key in await client.call("KEYS", f"{prefix}*")]
    runs = [key for key in keys if key.startswith(f"{prefix}run:")]
    statuses = [(await client.call("HGET", key, "status")).decode() for key in runs]
    if any(RunStatus(status) not in FINAL for status in statuses):
        return []
    left = [key for key in keys if key.removeprefix(prefix).startswith(OF_LIVE_RUNS)]
    for key in keys:
        if key.startswith(f"{prefix}steps:"):
            flat = await client.call("HGETALL", key)
            left += [
                f"{key} {flat[i]}" for i in range(0, len(flat), 2) if Operation.unpack(flat[i + 1]).is_pending
            ]
    return left
