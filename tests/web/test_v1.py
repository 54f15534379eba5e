"""What scripts for Inngest ask for beside events: cancellations in bulk, jobs of a run, runs that start by name. Rule S14.3."""

from __future__ import annotations

import time

import httpx

from taskflow.connections import Connections
from taskflow.testing import Harness
from taskflow.web.event_api.forms import iso
from tests.commands.shell import Shell


async def test_a_cancellation_in_bulk_is_a_bulk_operation(
    harness: Harness, link: Connections, web: httpx.AsyncClient, shell: Shell
) -> None:
    await link.control().pause_queue("shop", "default")
    run_ids = [(await harness.send("shop/order", {"n": n})).id for n in range(3)]
    tomorrow = iso(time.time_ns() // 1_000_000 + 86_400_000)
    asked = {
        "app_id": "shop", "function_id": "fulfil", "started_before": tomorrow, "if": "event.data.n < 2",
    }  # fmt: skip
    made = await web.post("/v1/cancellations", json=asked)
    assert made.status_code == 201, made.text
    told = made.json()["data"]
    assert (told["app_id"], told["function_id"], told["kind"], told["if"]) == (
        "shop", "fulfil", "BULK_RUN", "event.data.n < 2",
    )  # fmt: skip
    listed = (await web.get("/v1/cancellations")).json()["data"]
    assert [each["id"] for each in listed] == [told["id"]]
    await harness.advance(seconds=3)
    views = [await harness.apps[0].run(run_id).aview() for run_id in run_ids]
    assert [view.status.value for view in views] == ["cancelled", "cancelled", "queued"]
    assert (await web.delete(f"/v1/cancellations/{told['id']}")).status_code == 204
    assert (await web.delete("/v1/cancellations/none")).status_code == 404
    for wrong, status in (
        ({**asked, "function_id": "nope"}, 404),
        ({"app_id": "shop"}, 400),
        ({**asked, "if": "1 +"}, 400),
        ([], 400),
    ):
        refused = await web.post("/v1/cancellations", json=wrong)
        assert (refused.status_code, bool(refused.json()["error"])) == (status, True)
    entries = (await shell.arun("api", "audit.list")).json["entries"]
    assert {"bulk.create", "bulk.stop"} <= {each["what"] for each in entries}


async def test_a_run_that_is_cancelled_is_noted_with_its_outcome(
    harness: Harness, web: httpx.AsyncClient, shell: Shell
) -> None:
    run_id = (await harness.send("shop/order", {"waits": True})).id
    assert (await web.delete(f"/v1/runs/{run_id}")).status_code == 200
    assert (await web.delete("/v1/runs/none")).status_code == 404
    entries = (await shell.arun("api", "audit.list")).json["entries"]
    noted = [(each["what"], each["given"]["run_id"], each["outcome"]) for each in entries]
    assert noted == [("runs.cancel", "none", "run_not_found"), ("runs.cancel", run_id, "done")]


async def test_the_jobs_of_a_run_tell_its_place_in_the_queue(
    harness: Harness, link: Connections, web: httpx.AsyncClient
) -> None:
    control = link.control()
    await control.pause_queue("shop", "mail")
    spec = await control.spec("shop/post")
    first, second = [await control.invoke(spec, None) for _ in range(2)]
    places = [(await web.get(f"/v1/runs/{run_id}/jobs")).json()[0]["position"] for run_id in (first, second)]
    assert sorted(places) == [0, 1]
    ended = (await harness.send("shop/broken")).id
    assert (await web.get(f"/v1/runs/{ended}/jobs")).json() == []
    assert (await web.get("/v1/runs/none/jobs")).status_code == 404


async def test_a_function_is_invoked_by_its_slug(harness: Harness, web: httpx.AsyncClient) -> None:
    sent = await web.post("/invoke/shop-fulfil", json={"data": {"sku": "A7"}})
    assert (sent.status_code, sent.json()["status"]) == (200, 200)
    await harness.settled()
    assert await harness.apps[0].run(sent.json()["id"]).aresult() == "sent A7"
    assert (await web.post("/invoke/shop-nope", json={})).status_code == 404
    assert (await web.post("/invoke/shop-fulfil", json=[])).status_code == 400
