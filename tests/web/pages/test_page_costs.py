"""What a page costs the store does not grow with the number of runs. Rule S14.5."""

from __future__ import annotations

import httpx
import pytest

from taskflow.connections import Connections
from taskflow.event import Event
from taskflow.testing import Harness
from taskflow.web.pages.routes import PAGE
from tests.web.test_costs import counted

# A row of a list takes a command, and one more if its run is live.
MAX_COMMANDS = 2 * PAGE + 20
MAX_ROUND_TRIPS = 4


@pytest.fixture
async def run_id(harness: Harness, link: Connections) -> str:
    """One run of many: more than a page of each status."""
    control = link.control()
    await control.pause_queue("shop", "mail")
    spec = await control.spec("shop/post")
    run_ids = [await control.invoke(spec, None) for _ in range(60)]
    names = ("shop/parcel", "shop/broken", "shop/order")
    await harness.apps[0].asend([Event(name, {"parcel": {"id": n}}) for name in names for n in range(60)])
    await harness.settled()
    return run_ids[0]


async def test_pages_are_bounded(run_id: str, link: Connections, web: httpx.AsyncClient) -> None:
    paths = (
        "/", "/runs", "/runs?status=waiting", "/runs?status=failed", "/runs?function=shop/post", f"/runs/{run_id}", "/errors",
        "/events", "/functions", "/functions/shop/parcel", "/queues", "/workers", "/dead-letters", "/audit",
    )  # fmt: skip
    client = (await link.session().store()).client
    dear = {}
    for path in paths:
        with counted(client) as cost:
            assert (await web.get(path)).status_code == 200
        if cost.commands > MAX_COMMANDS or cost.round_trips > MAX_ROUND_TRIPS:
            dear[path] = cost
    assert dear == {}
