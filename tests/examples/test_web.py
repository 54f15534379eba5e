"""examples/web.py: a real web server's app in front of the real engine."""

from __future__ import annotations

import httpx

from taskflow.testing import Harness
from tests.examples.conftest import Load

ORDER = {"order_id": "A-1", "item": "oolong", "cents": 1250, "email": "ada@example.org"}


async def test_web_app_starts_a_run_sends_the_event_and_shows_how_it_ended(load_example: Load) -> None:
    order, web = load_example("order"), load_example("web")
    transport = httpx.ASGITransport(app=web.api)
    async with (
        Harness(order.app) as harness,
        httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        created = await client.post("/orders", json=ORDER)
        assert created.status_code == 202
        run_id = created.json()["run_id"]
        await harness.settled()
        await harness.advance(seconds=1)
        progress = (await client.get(f"/runs/{run_id}")).json()
        assert progress == {"run_id": run_id, "status": "waiting", "result": None, "error": None}
        shipped = await client.post("/orders/A-1/shipped")
        assert shipped.status_code == 202
        await harness.settled()
        await harness.advance(seconds=2)
        progress = (await client.get(f"/runs/{run_id}")).json()
    assert progress["status"] == "completed"
    assert progress["result"]["status"] == "shipped"


async def test_web_app_says_so_when_there_is_no_such_run_or_the_order_makes_no_sense(
    load_example: Load,
) -> None:
    order, web = load_example("order"), load_example("web")
    transport = httpx.ASGITransport(app=web.api)
    async with (
        Harness(order.app),
        httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        assert (await client.get("/runs/01ARZ3NDEKTSV4RRFFQ69G5FAV-aaaaaa")).status_code == 404
        assert (await client.post("/orders", json={**ORDER, "cents": 0})).status_code == 422
        assert (await client.post("/orders", json={**ORDER, "order_id": "../../etc"})).status_code == 422
