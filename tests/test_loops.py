"""What an event loop opened ends with it: nothing is left of code that makes a loop for each call."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import uvloop

from taskflow.app import TaskFlow
from taskflow.context import Context
from tests.processes import TaskflowProcess, wait_until
from tests.servers import ValkeyServer

LOOPS = 50

APP = """
from taskflow import Context, TaskFlow

app = TaskFlow("shop")


@app.function
async def greet(ctx: Context) -> str:
    return f"hello {ctx.event.data['name']}"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as running:
        yield running


@pytest.fixture(scope="module")
def worker(server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder: Path = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(APP)
    with TaskflowProcess(
        "worker", "-A", "shop:app", "--processes", "1", cwd=folder, env={"TASKFLOW_BROKER": server.url}
    ) as process:
        process.wait_for_line("is ready")
        yield


@pytest.fixture
def app(server: ValkeyServer) -> Iterator[TaskFlow]:
    made = TaskFlow("shop", broker=server.url, store=server.url)

    @made.function
    async def greet(ctx: Context[Any]) -> str:
        return f"hello {ctx.event.data['name']}"

    yield made
    made.close()


def connections(server: ValkeyServer) -> set[str]:
    with redis.Redis.from_url(server.url) as client:
        own = client.client_id()
        return {each["id"] for each in client.client_list() if int(each["id"]) != own}


async def greet(app: TaskFlow, number: int) -> str:
    """Uses all that a loop may open: the broker, the store, and the connection that listens for the end of a run."""
    await app.asend("order.created", {"number": number})
    run = await app.functions["shop/greet"].ainvoke({"name": str(number)})
    return str(await run.aresult(timeout=10))


def run_with_uvloop(main: Coroutine[Any, Any, str]) -> str:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def run_as_asgiref(main: Coroutine[Any, Any, str]) -> str:
    """How Django and Flask run an async view under WSGI."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@pytest.mark.parametrize("run", [asyncio.run, run_with_uvloop, run_as_asgiref])
def test_a_loop_for_each_call_leaves_no_connection(
    app: TaskFlow, worker: None, server: ValkeyServer, run: Callable[[Coroutine[Any, Any, str]], str]
) -> None:
    """A ResourceWarning of what was not closed fails the test too, when `gc.collect` meets it."""
    assert run(greet(app, 0)) == "hello 0"
    before = connections(server)

    for number in range(1, LOOPS + 1):
        assert run(greet(app, number)) == f"hello {number}"

    gc.collect()
    wait_until(
        lambda: len(connections(server)) <= len(before), what=f"no more than {len(before)} connections"
    )


def test_what_a_loop_that_was_just_closed_had_opened_ends_with_the_next_loop(
    app: TaskFlow, worker: None, server: ValkeyServer
) -> None:
    """Nothing tells of the end of such a loop. Python itself warns of what it left open."""

    def run(main: Coroutine[Any, Any, str]) -> str:
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(main)
        finally:
            loop.close()

    before = connections(server)
    with pytest.warns(ResourceWarning):
        for number in range(LOOPS):
            run(greet(app, number))
        asyncio.run(greet(app, LOOPS))
        gc.collect()

    # One of the broker, which all loops share.
    wait_until(lambda: len(connections(server) - before) <= 1, what="the end of what the loops had opened")


def test_a_session_can_be_used_again_after_it_was_closed(
    app: TaskFlow, worker: None, server: ValkeyServer
) -> None:
    async def twice() -> list[str]:
        first = await greet(app, 1)
        await app.aclose()
        return [first, await greet(app, 2)]

    before = connections(server)
    assert asyncio.run(twice()) == ["hello 1", "hello 2"]
    wait_until(lambda: len(connections(server) - before) <= 1, what="the end of both sessions")
