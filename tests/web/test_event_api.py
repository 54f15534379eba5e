"""Events over HTTP, in the form of Inngest's event API: all or none, ids by a seed, many formats. Rule S14.3."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import httpx
import pytest

from taskflow.connections import Connections
from taskflow.testing import Harness
from taskflow.values.ids import new_ulid
from taskflow.web.catalogue.post import Post
from tests.waiting import until

NDJSON = {"content-type": "application/x-ndjson"}
CLOUD = {"specversion": "1.0", "type": "shop/order", "source": "/erp", "id": "7"}


async def data_of(harness: Harness, web: httpx.AsyncClient, uid: str) -> dict[str, Any]:
    await harness.settled()
    told: dict[str, Any] = (await web.get(f"/api/v1/events/{uid}")).json()
    return told


async def test_one_event_or_a_list_gives_ids_in_order(harness: Harness, web: httpx.AsyncClient) -> None:
    one = await web.post("/e/test", json={"name": "shop/order", "data": {"n": 0}})
    assert one.status_code == 200
    assert one.headers["x-inngest-server-kind"] == "dev"
    assert one.json().keys() == {"ids", "status"}
    many = (
        await web.post("/e/test", json=[{"name": "shop/order", "data": {"n": n}} for n in range(3)])
    ).json()
    assert many["status"] == 200
    found = [(await data_of(harness, web, uid))["data"]["n"] for uid in one.json()["ids"] + many["ids"]]
    assert found == [0, 0, 1, 2]
    assert (await web.post("/e/test", json=[])).json() == {"ids": [], "status": 200}


async def test_all_events_are_taken_or_none(harness: Harness, web: httpx.AsyncClient) -> None:
    events = [{"name": "shop/order"}, {"name": ""}, {"data": {}}, {"name": "shop/order"}]
    refused = await web.post("/e/test", json=events)
    told = refused.json()
    assert refused.status_code == told["status"] == 400
    assert told["ids"] == []
    assert [error["index"] for error in told["errors"]] == [1, 2]
    assert "event 1" in told["error"]
    await harness.settled()
    assert (await web.get("/api/v1/events")).json()["events"] == []


async def test_the_seed_of_an_sdk_makes_the_same_ids_again(harness: Harness, web: httpx.AsyncClient) -> None:
    # From Inngest's own description: the index of the event, from 1, is added to the last four bytes.
    entropy = bytes(range(10))
    headers = {"x-inngest-event-id-seed": f"1700000000000,{base64.b64encode(entropy).decode()}"}
    events = [{"name": "shop/order"}, {"name": "shop/order"}]
    first = (await web.post("/e/test", json=events, headers=headers)).json()["ids"]
    assert first == ["01HF7YAT00000G40R40M30E20A", "01HF7YAT00000G40R40M30E20B"]
    assert (await web.post("/e/test", json=events, headers=headers)).json()["ids"] == first
    await harness.settled()
    assert len((await web.get("/api/v1/runs", params={"function": "shop/fulfil"})).json()["runs"]) == 2


@pytest.mark.parametrize(
    "seed", ["", "x", "1,", "1,AA==", "-1,AAAAAAAAAAAAAA==", "99999999999999999,AAAAAAAAAAAAAA==", "1,é"]
)
async def test_a_seed_that_can_not_be_read_is_ignored(
    harness: Harness, web: httpx.AsyncClient, seed: str
) -> None:
    headers = [(b"x-inngest-event-id-seed", seed.encode())]
    answers = [
        (await web.post("/e/test", json={"name": "shop/order"}, headers=headers)).json() for _ in range(2)
    ]
    assert answers[0]["ids"] != answers[1]["ids"]


async def test_an_idempotency_key_makes_the_same_ids_again(harness: Harness, web: httpx.AsyncClient) -> None:
    events = [{"name": "shop/order", "data": {"n": n}} for n in range(2)]
    first, again = [
        (await web.post("/e/test", json=events, headers={"idempotency-key": "import-7"})).json()
        for _ in range(2)
    ]
    assert first == again
    refused = await web.post("/e/test", json=events[:1], headers={"idempotency-key": "import-7"})
    assert (refused.status_code, refused.json()["code"]) == (422, "key_reused")


async def test_an_event_nobody_listens_to_is_told(
    harness: Harness, web: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    told = (await web.post("/e/test", json=[{"name": "shop/order"}, {"name": "shop/ordre"}])).json()
    assert told["unheard"] == ["shop/ordre"]
    assert "'shop/ordre'" in caplog.text


async def test_a_request_may_wait_for_the_runs_of_its_events(
    harness: Harness, web: httpx.AsyncClient
) -> None:
    told = (await web.post("/e/test?wait=10s", json=[{"name": "shop/order", "data": {"sku": "A7"}}])).json()
    assert [run["output"] for run in told["runs"][0]] == ["sent A7"]


async def test_fields_that_sdks_send_are_read_as_inngest_reads_them(
    harness: Harness, web: httpx.AsyncClient
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    event = {
        "name": "shop/order", "data": {"_inngest": {"x": 1}, "n": 1}, "id": "order-7", "ts": 0, "user": {"u": 1}, "v": "2",
        "meta": {"sessions": {}}, "unknown": True,
    }  # fmt: skip
    (uid,) = (await web.post("/e/test", json=event, headers={"traceparent": trace})).json()["ids"]
    told = await data_of(harness, web, uid)
    assert (told["id"], told["data"], told["user"], told["v"]) == ("order-7", {"n": 1}, {"u": 1}, "2")
    assert told["headers"] == {"traceparent": trace}


async def test_a_clock_that_is_a_little_ahead_delays_no_run(harness: Harness, web: httpx.AsyncClient) -> None:
    now_ms = harness.clock.now_ms()
    (uid,) = (await web.post("/e/test", json={"name": "shop/order", "ts": now_ms + 3_000})).json()["ids"]
    (later,) = (await web.post("/e/test", json={"name": "shop/order", "ts": now_ms + 3_600_000})).json()[
        "ids"
    ]
    await harness.settled()
    statuses = [
        (await web.get(f"/v1/events/{each}/runs")).json()["data"][0]["status"] for each in (uid, later)
    ]
    assert statuses == ["Completed", "Scheduled"]


async def test_lines_of_json_are_events(harness: Harness, web: httpx.AsyncClient) -> None:
    lines = b'{"name": "shop/order", "data": {"n": 1}}\n\n{"name": "shop/order", "data": {"n": 2}}\r\n'
    ids = (await web.post("/e/test", content=lines, headers=NDJSON)).json()["ids"]
    assert [(await data_of(harness, web, uid))["data"]["n"] for uid in ids] == [1, 2]


async def test_gzip_is_unpacked(harness: Harness, web: httpx.AsyncClient) -> None:
    packed = zlib.compress(b'[{"name": "shop/order"}]', wbits=31)
    answer = await web.post("/e/test", content=packed, headers={"content-encoding": "gzip"})
    assert len(answer.json()["ids"]) == 1


async def test_cloud_events_are_events_in_each_of_their_forms(
    harness: Harness, web: httpx.AsyncClient
) -> None:
    structured = {"content-type": "application/cloudevents+json; charset=utf-8"}
    batch = {"content-type": "application/cloudevents-batch+json"}
    binary = {f"ce-{name}": value for name, value in CLOUD.items()}
    answers = [
        await web.post(
            "/e/test", json={**CLOUD, "id": "a", "data": {"n": 1}, "subject": "s"}, headers=structured
        ),
        await web.post(
            "/e/test", json=[{**CLOUD, "id": "b", "data": [1]}, {**CLOUD, "id": "c"}], headers=batch
        ),
        await web.post("/e/test", json={"n": 2}, headers=binary),
        await web.post(
            "/e/test", content=b"\x00\xff", headers={**binary, "ce-id": "8", "content-type": "image/png"}
        ),
    ]
    uids = [uid for answer in answers for uid in answer.json()["ids"]]
    told = [await data_of(harness, web, uid) for uid in uids]
    assert [each["data"] for each in told] == [{"n": 1}, {"value": [1]}, {}, {"n": 2}, {"base64": "AP8="}]
    assert [each["id"] for each in told] == ["/erp a", "/erp b", "/erp c", "/erp 7", "/erp 8"]
    assert told[0]["headers"] == {"ce-source": "/erp", "ce-subject": "s"}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"type": ""}, "'type'"),
        ({"id": None}, "'id'"),
        ({"specversion": "0.3"}, "specversion 1.x"),
        ({"time": "soon"}, "time"),
        ({"time": "2030-01-01T00:00:00"}, "time"),
        ({"data_base64": "#"}, "base64"),
        ({"data_base64": 7}, "base64"),
    ],
)
async def test_a_cloud_event_that_is_wrong_is_refused(
    harness: Harness, web: httpx.AsyncClient, change: dict[str, Any], part: str
) -> None:
    headers = {"content-type": "application/cloudevents+json"}
    answer = await web.post("/e/test", json={**CLOUD, **change}, headers=headers)
    assert answer.status_code == 400
    assert part in answer.json()["error"]


@pytest.mark.parametrize(
    ("content", "status", "part"),
    [
        (b"", 400, "expected an event"),
        (b"not json", 400, "expected an event"),
        (b"7", 400, "expected a JSON object"),
        (b"null", 400, "expected a JSON object"),
        (b'{"name": 7}', 400, "must be a str"),
        (b'{"name": "inngest/x"}', 400, "reserved"),
        (b'{"name": "INNGEST/x"}', 400, "reserved"),
        (b'{"name": "taskflow/x"}', 400, "reserved"),
        (b'{"name": "a", "data": "text"}', 400, "JSON object"),
        (b'{"name": "a", "ts": 1700000000}', 400, "looks like seconds"),
        (b'{"name": "a", "id": 7}', 400, "id must be"),
        (b'{"name": "a", "headers": {"x y": "1"}}', 400, "header"),
        (b'{"name": "' + b"n" * 300 + b'"}', 400, "1 to 256"),
        (b'{"name": "a", "data": {"x": "' + b"y" * 300_000 + b'"}}', 400, "max_event_bytes"),
        (b'{"name": "a", "data": ' + b'{"a":' * 2_000 + b"1" + b"}" * 2_001, 400, "expected an event"),
        (json.dumps([{"name": "a"}] * 5_001).encode(), 413, "5,000"),
        (b" " * 9_000_000, 413, "8,388,608"),
    ],
)
async def test_a_hostile_body_is_refused_in_words_that_sdks_show(
    harness: Harness, web: httpx.AsyncClient, content: bytes, status: int, part: str
) -> None:
    answer = await web.post("/e/test", content=content)
    told = answer.json()
    assert answer.status_code == told["status"] == status
    assert told["ids"] == []
    assert part in told["error"]


async def test_pages_of_this_machine_may_send_and_others_may_not(
    harness: Harness, web: httpx.AsyncClient
) -> None:
    local = {"origin": "http://localhost:3000"}
    asked = await web.options("/e/test", headers=local)
    assert asked.headers["access-control-allow-origin"] == "http://localhost:3000"
    sent = await web.post("/e/test", json={"name": "shop/order"}, headers=local)
    assert sent.headers["access-control-allow-origin"] == "http://localhost:3000"
    foreign = await web.post(
        "/e/test", json={"name": "shop/order"}, headers={"origin": "http://evil.example"}
    )
    assert foreign.status_code == 403
    assert "access-control-allow-origin" not in foreign.headers


async def test_get_tells_whether_a_key_is_good(web: httpx.AsyncClient, namespace: str) -> None:
    assert (await web.get("/e/test")).json() == {"status": 200, "key": "dev", "namespace": namespace}


# --- what scripts that were written for Inngest read ---


async def test_ids_resolve_at_once(harness: Harness, web: httpx.AsyncClient) -> None:
    (uid,) = (await web.post("/e/test", json={"name": "shop/order", "id": "o-7", "data": {"n": 1}})).json()[
        "ids"
    ]
    at_once = (await web.get(f"/v1/events/{uid}")).json()["data"]
    assert (at_once["internal_id"], at_once["id"], at_once["data"]) == (uid, "o-7", {"n": 1})
    assert (await web.get(f"/v1/events/{uid}/runs")).status_code == 200
    await harness.settled()
    routed = (await web.get(f"/v1/events/{uid}")).json()["data"]
    assert {**at_once, "received_at": 0} == {**routed, "received_at": 0}


async def test_a_script_polls_for_the_result_of_its_event(harness: Harness, web: httpx.AsyncClient) -> None:
    (uid,) = (await web.post("/e/test", json={"name": "shop/order", "data": {"sku": "A7"}})).json()["ids"]

    async def runs() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await web.get(f"/v1/events/{uid}/runs")).json()["data"]
        return [run for run in found if run["status"] == "Completed"]

    await until(runs, description="the run completes")
    (run,) = await runs()
    assert (run["function_id"], run["function"], run["output"]) == ("shop-fulfil", "shop/fulfil", "sent A7")
    one = (await web.get(f"/v1/runs/{run['run_id']}")).json()
    assert one["data"] == run
    assert one["metadata"].keys() == {"fetched_at", "cached_until"}


async def test_a_duplicate_leads_to_the_runs_of_the_first(harness: Harness, web: httpx.AsyncClient) -> None:
    event = {"name": "shop/order", "id": "order-7"}
    uids = [(await web.post("/e/test", json=event)).json()["ids"][0] for _ in range(2)]
    await harness.settled()
    found = [(await web.get(f"/v1/events/{uid}/runs")).json()["data"] for uid in uids]
    assert found[0] == found[1] != []


async def test_scripts_list_wait_cancel_and_signal(harness: Harness, web: httpx.AsyncClient) -> None:
    runs = [(await harness.send("shop/order", {"waits": True})).id for _ in range(1)]
    waited = (await web.get(f"/v1/runs/{runs[0]}", params={"wait": "1ms"})).json()["data"]
    assert waited["status"] == "Running"
    assert (await web.post("/v1/signals", json={"signal": "approve", "data": 1})).json()["data"] == {
        "run_id": runs[0]
    }
    other = (await harness.send("shop/order", {"waits": True})).id
    cancelled = await web.delete(f"/v1/runs/{other}")
    assert (cancelled.status_code, cancelled.content) == (200, b"")
    assert (await web.get(f"/v1/runs/{other}")).json()["data"]["status"] == "Cancelled"
    listed = (await web.get("/v1/events", params={"name": "shop/order", "limit": 5})).json()["data"]
    assert len(listed) == 2
    functions = (await web.get("/v1/apps/shop/functions")).json()
    assert {each["slug"] for each in functions} >= {"shop-fulfil", "shop-post"}


async def test_what_scripts_ask_in_vain_is_told_in_their_form(
    harness: Harness, web: httpx.AsyncClient
) -> None:
    for path in (
        "/v1/events/nope",
        "/v1/events/nope/runs",
        "/v1/runs/nope",
        "/v1/events/01ARZ3NDEKTSV4RRFFQ69G5FAV",
    ):
        answer = await web.get(path)
        assert answer.status_code == answer.json()["status"] == 404
        assert answer.json()["error"]
    assert (await web.post("/v1/signals", json={"signal": "x"})).status_code == 404
    assert (await web.post("/v1/signals", json=[])).status_code == 400
    assert (await web.get("/v1/events?limit=0")).status_code == 400
    assert (await web.delete("/v1/runs/nope")).status_code == 404


async def test_an_event_of_another_web_process_is_waited_for_and_then_unknown(
    harness: Harness, web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskflow.web.event_api.v1.ROUTED_WITHIN_S", 0.02)
    answer = await web.get(f"/v1/events/{new_ulid()}")
    assert answer.status_code == 404


async def test_repeated_requests_take_no_more_memory(link: Connections) -> None:
    post = Post(link)
    for _ in range(3):
        post.remember("01HF7YAT00000G40R40M30E20A", b"x" * 100)
    assert (post.recent_bytes, len(post.recent)) == (100, 1)
