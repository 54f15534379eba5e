"""What an operation costs the store: at most 60 commands in three round trips, however many runs there are. Rule S14.1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from taskflow import Context, Step, TaskFlow
from taskflow.connections import Connections
from taskflow.event import Event
from taskflow.function import FunctionSpec
from taskflow.redis.client import StoreClient
from taskflow.testing import Harness
from taskflow.web.catalogue.operation import Desk
from taskflow.web.catalogue.post import Post
from taskflow.web.catalogue.table import OPERATIONS

MAX_COMMANDS = 60
MAX_ROUND_TRIPS = 3
FULFIL = {"app": "shop", "function": "fulfil"}


@dataclass(slots=True)
class Cost:
    commands: int = 0
    round_trips: int = 0


@contextmanager
def counted(client: StoreClient) -> Iterator[Cost]:
    """Counts what the client sends inside the block."""
    cost, flush = Cost(), client.flush

    def counting_flush() -> None:
        if client.unsent:
            cost.commands += len(client.unsent)
            # What is sent while replies are on their way waits for none of them.
            cost.round_trips += not client.in_flight
        flush()

    client.flush = counting_flush  # type: ignore[method-assign]
    try:
        yield cost
    finally:
        del client.flush


@pytest.fixture
def napping(app: TaskFlow) -> str:
    """A function whose runs wait, declared before a worker starts."""

    @app.function(trigger="shop/nap")
    async def nap(ctx: Context[Step]) -> None:
        await ctx.step.sleep("nap", "1h")

    return nap.id


@pytest.fixture
async def many(app: TaskFlow, napping: str, harness: Harness, link: Connections) -> str:
    """Runs of each status, more than a page of each; gives the id of one of them."""
    await harness.settled()
    control = link.control()
    await control.pause_queue("shop", "mail")
    spec = await control.spec("shop/post")
    run_ids = [await control.invoke(spec, None) for _ in range(25)]
    await app.asend([Event(name) for name in ("shop/nap", "shop/broken", "shop/order") for _ in range(25)])
    await harness.settled()
    assert len(await app.aruns(napping, status="waiting")) == 25
    # A command a function would show.
    for number in range(100):
        await control.invoke(
            FunctionSpec(app_id="shop", slug=f"other-{number}", name="other", queue="mail"), None
        )
    return run_ids[0]


GIVEN: dict[str, list[dict[str, Any]]] = {
    "runs.list": [
        {"function": f"shop/{slug}", "status": status}
        for slug, status in (("post", []), ("fulfil", []), ("broken", ["failed"]), ("post", ["queued", "waiting"]))
    ] + [{}, {"since": "1h"}, {"status": ["failed"]}, {"status": ["waiting"]}, {"status": ["completed"], "since": "1h"}],
    "events.list": [{}, {"name": "shop/order"}],
    "functions.get": [FULFIL],
    "bulk.count": [{"action": "cancel"}, {"action": "rerun", "since": "1h"}, {"action": "cancel", "status": ["waiting"]}],
}  # fmt: skip
READS = [
    (name, given)
    for name, operation in OPERATIONS.items()
    if not operation.is_write
    for given in GIVEN.get(name, [{}])
]


async def test_reads_are_bounded(many: str, link: Connections) -> None:
    desk, dear = Desk(link, Post(link)), {}
    client = (await link.session().store()).client
    bulk = await OPERATIONS["bulk.create"].call(desk, {"action": "rerun"})
    for name, given in READS:
        if name in ("runs.get", "runs.steps"):
            given = {"run_id": many}
        elif name == "bulk.get":
            given = {"bulk_id": bulk["id"]}
        elif name == "events.get":
            given = {"event_id": many.partition("-")[0]}
        with counted(client) as cost:
            await OPERATIONS[name].call(desk, given)
        if cost.commands > MAX_COMMANDS or cost.round_trips > MAX_ROUND_TRIPS:
            dear[name, str(given)] = cost
    assert dear == {}
