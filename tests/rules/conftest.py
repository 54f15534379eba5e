"""After each test of a rule: what did it leave behind?"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from taskflow.redis.address import parse_server_url
from taskflow.redis.client import StoreClient
from tests.leaks import find_leaks
from tests.waiting import until

# How the log lines end that tell of a bug.
OF_BUGS = (
    "the engine failed",
    "the executor failed",
    "publishing failed",
    "routing a message failed; it is kept: taskflow dead-letters",
)


@pytest.fixture(autouse=True)
async def no_leaks(valkey_url: str, namespace: str) -> AsyncIterator[None]:
    """Fails a test whose runs leave something in the store when they end, or that leaves asyncio tasks or threads of taskflow."""
    threads_before = set(threading.enumerate())
    tasks_before = asyncio.all_tasks()
    yield
    client = StoreClient(parse_server_url(valkey_url, what="store"))
    await client.connect()
    leaks = await find_leaks(client, f"{namespace}:{{0}}:")
    await client.close()
    assert not leaks, f"runs that have ended left this behind: {leaks}"
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
