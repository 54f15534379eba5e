"""The API over HTTP: pages, waits, streams, repeated requests, and problems that say what to do. Rule S14.2."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from taskflow.connections import Connections
from taskflow.testing import Harness
from taskflow.web.api import body
from taskflow.web.site import SiteOptions, make_site
from tests.servers import ValkeyServer
from tests.waiting import until
from tests.web.server import served

API = "/api/v1"
INVOKE = f"{API}/functions/shop/post/invoke"


async def test_runs_are_read_page_by_page_without_gap_or_double(
    harness: Harness, web: httpx.AsyncClient
) -> None:
    made = [(await harness.send("shop/order")).id for _ in range(5)]
    made += [(await harness.send("shop/broken")).id for _ in range(2)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = (await web.get(f"{API}/runs", params=query)).json()
        assert len(page["runs"]) <= 2
        seen += [run["run_id"] for run in page["runs"]]
        if (cursor := page["next"]) is None:
            break
    assert sorted(seen) == sorted(made)
    assert len(seen) == len(set(seen))


async def test_events_are_read_page_by_page(harness: Harness, web: httpx.AsyncClient) -> None:
    sent = [(await harness.send(name)).id for name in ("shop/order",) * 3]
    first = (await web.get(f"{API}/events", params={"limit": 2})).json()
    second = (await web.get(f"{API}/events", params={"limit": 2, "cursor": first["next"]})).json()
    uids = [event["uid"] for event in first["events"] + second["events"]]
    assert uids == [run_id.partition("-")[0] for run_id in reversed(sent)]
    assert second["next"] is None


async def test_a_request_may_wait_for_the_end_of_the_run(harness: Harness, web: httpx.AsyncClient) -> None:
    waiting = (await harness.send("shop/order", {"waits": True, "sku": "A7"})).id
    asked = asyncio.ensure_future(web.get(f"{API}/runs/{waiting}", params={"wait": "10s"}))
    answered = await web.post(f"{API}/signals", json={"app": "shop", "name": "approve"})
    assert answered.json() == {"run_id": waiting}
    run = (await asked).json()
    assert (run["status"], run["output"]) == ("completed", "sent A7")


async def test_a_wait_that_is_over_answers_how_the_run_is(harness: Harness, web: httpx.AsyncClient) -> None:
    waiting = (await harness.send("shop/order", {"waits": True})).id
    run = (await web.get(f"{API}/runs/{waiting}", params={"wait": "1ms"})).json()
    assert run["status"] == "waiting"
    assert "approve" in run["why"]


async def test_an_event_and_an_invoke_may_wait_for_their_runs(
    harness: Harness, web: httpx.AsyncClient
) -> None:
    sent = (
        await web.post(f"{API}/events?wait=10s", json={"name": "shop/order", "data": {"sku": "B1"}})
    ).json()
    assert [(run["status"], run["output"]) for run in sent["runs"]] == [("completed", "sent B1")]
    assert not sent["is_unheard"]
    invoked = (await web.post(INVOKE, params={"wait": "10s"})).json()
    assert (invoked["run"]["run_id"], invoked["run"]["output"]) == (invoked["run_id"], "posted")


async def test_an_event_that_starts_no_function_is_told(harness: Harness, web: httpx.AsyncClient) -> None:
    assert (await web.post(f"{API}/events", json={"name": "shop/ordre"})).json()["is_unheard"]


async def test_a_repeated_request_with_its_key_makes_nothing_twice(
    harness: Harness, web: httpx.AsyncClient
) -> None:
    header = {"Idempotency-Key": "invoice-7"}
    first = (await web.post(INVOKE, json={"data": {"n": 1}}, headers=header)).json()
    again = (await web.post(INVOKE, json={"data": {"n": 1}}, headers=header)).json()
    other = (await web.post(INVOKE, json={"data": {"n": 1}}, headers={"Idempotency-Key": "invoice-8"})).json()
    assert first == again != other
    refused = await web.post(INVOKE, json={"data": {"n": 2}}, headers=header)
    assert (refused.status_code, refused.json()["code"]) == (422, "key_reused")
    runs = (await web.get(f"{API}/runs", params={"function": "shop/post"})).json()["runs"]
    assert len(runs) == 2


async def test_a_repeated_rerun_event_and_signal_make_nothing_twice(
    harness: Harness, web: httpx.AsyncClient
) -> None:
    async def twice(path: str, members: dict[str, Any]) -> tuple[Any, Any]:
        answers = [
            await web.post(f"{API}{path}", json=members, headers={"Idempotency-Key": path}) for _ in range(2)
        ]
        return answers[0].json(), answers[1].json()

    failed = (await harness.send("shop/broken")).id
    first, again = await twice(f"/runs/{failed}/rerun", {})
    assert first == again
    first, again = await twice("/events", {"name": "shop/order"})
    assert first == again
    await harness.settled()
    waiting = [(await harness.send("shop/order", {"waits": True})).id for _ in range(1)]
    first, again = await twice("/signals", {"app": "shop", "name": "approve"})
    assert first == again == {"run_id": waiting[0]}
    assert len((await web.get(f"{API}/runs", params={"function": "shop/broken"})).json()["runs"]) == 2


async def read_stream(web: httpx.AsyncClient, path: str) -> AsyncIterator[tuple[str, Any]]:
    async with web.stream("GET", path) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        name = ""
        async for line in answer.aiter_lines():
            field, _, value = line.partition(": ")
            if line.startswith(":"):
                yield "comment", value
            elif field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)


async def test_a_run_is_streamed_as_it_goes_on_until_its_end(harness: Harness, link: Connections) -> None:
    waiting = (await harness.send("shop/order", {"waits": True, "sku": "A7"})).id
    site = make_site(link, SiteOptions(is_dev=True, heartbeat_s=0.01))
    async with served(site) as url, httpx.AsyncClient(base_url=url) as web:
        seen: list[tuple[str, str | None]] = []
        async for name, told in read_stream(web, f"{API}/runs/{waiting}/stream"):
            if name == "comment":
                if len(seen) == 1:
                    seen.append(("heartbeat", None))
                    await web.post(f"{API}/signals", json={"app": "shop", "name": "approve"})
                continue
            seen.append((name, told["status"]))
    assert seen[:2] == [("run", "waiting"), ("heartbeat", None)]
    assert seen[-1] == ("end", "completed")


async def test_a_stream_ends_with_its_client(harness: Harness, link: Connections) -> None:
    waiting = (await harness.send("shop/order", {"waits": True})).id
    async with served(make_site(link, SiteOptions(is_dev=True))) as url:
        async with httpx.AsyncClient(base_url=url) as web:
            async for _ in read_stream(web, f"{API}/runs/{waiting}/stream"):
                assert link.session().listening
                break
        await until(lambda: not link.session().listening, description="the watch ends")


async def test_a_stream_of_an_unknown_run_is_a_problem(harness: Harness, web: httpx.AsyncClient) -> None:
    answer = await web.get(f"{API}/runs/01J00000000000000000000000-abcdef/stream")
    assert (answer.status_code, answer.json()["code"]) == (404, "run_not_found")


@pytest.mark.parametrize(
    ("method", "path", "members", "status", "code", "part"),
    [
        ("GET", "/runs/nope", None, 404, "run_not_found", "nope"),
        ("GET", "/runs/%2e%2e%2f%2e%2e%2fetc", None, 404, "not_found", ""),
        ("GET", "/runs?limit=1000", None, 400, "invalid_field", "from 1 to 100"),
        ("GET", "/runs?limit=two", None, 400, "invalid_field", "a whole number"),
        ("GET", "/runs?stauts=failed", None, 400, "invalid_field", "did you mean 'status'"),
        ("GET", "/runs?status=broken", None, 400, "invalid_field", "scheduled, queued"),
        ("GET", "/runs?cursor=7", None, 400, "invalid_field", "`next` of the page before"),
        ("GET", "/runs?since=soon", None, 400, "invalid_field", "since"),
        ("GET", "/runs?function=shop/fulfill", None, 404, "function_not_found", "did you mean 'shop/fulfil'"),
        ("GET", "/runs?limit=1&limit=2", None, 400, "invalid_field", "given 2 times"),
        ("GET", "/nothing", None, 404, "not_found", ""),
        ("DELETE", "/runs", None, 405, "method_not_allowed", ""),
        ("GET", "/events/nope", None, 404, "event_not_found", "nope"),
        ("POST", "/events", {}, 400, "invalid_field", "name is missing"),
        ("POST", "/events", {"name": ""}, 400, "invalid_event", "1 to 256"),
        ("POST", "/events", {"name": "taskflow/x"}, 400, "invalid_event", "reserved"),
        ("POST", "/events", {"name": "a", "data": []}, 400, "invalid_field", "a JSON object"),
        ("POST", "/events", [1], 400, "invalid_request", "JSON object"),
        ("POST", "/functions/shop/pots/invoke", {}, 404, "function_not_found", "shop/pots"),
        ("POST", "/functions/shop/post/invoke", {"app": "x"}, 400, "invalid_field", "in the address"),
        ("POST", "/functions/shop/post/invoke", {"delay": "x"}, 400, "invalid_field", "delay"),
        ("POST", "/functions/shop/post/invoke", {"headers": {"a": 1}}, 400, "invalid_event", "header 'a'"),
        ("POST", "/queues/shop/mial/pause", {}, 404, "queue_not_found", "did you mean 'shop/mail'"),
        ("POST", "/signals", {"app": "shop", "name": "approve"}, 404, "signal_not_found", "approve"),
        ("POST", "/runs/nope/cancel", {"reason": 7}, 400, "invalid_field", "reason"),
    ],
)
async def test_a_problem_names_what_is_wrong_and_what_to_do(
    harness: Harness, web: httpx.AsyncClient, method: str, path: str, members: Any, status: int, code: str, part: str
) -> None:  # fmt: skip
    answer = await web.request(method, API + path, **({} if members is None else {"json": members}))
    told = answer.json()
    assert (answer.status_code, told["code"], told["status"]) == (status, code, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert part in told["detail"]
    assert told["hint"] and told["title"]


async def test_a_live_run_is_not_rerun(harness: Harness, web: httpx.AsyncClient) -> None:
    waiting = (await harness.send("shop/order", {"waits": True})).id
    answer = await web.post(f"{API}/runs/{waiting}/rerun")
    assert (answer.status_code, answer.json()["code"]) == (409, "rerun_refused")


JSON = {"content-type": "application/json"}
GZIP = {**JSON, "content-encoding": "gzip"}
DEEP = b'{"name": "a", "data": ' + b'{"a":' * 300 + b"1" + b"}" * 301


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"{", JSON, 400, "invalid_request"),
        (b'{"name": "\xff"}', JSON, 400, "invalid_request"),
        (b'{"name": "\\ud800"}', JSON, 400, "invalid_request"),
        ('{"name": "a"}'.encode("utf-16"), JSON, 400, "invalid_request"),
        (b'{"name": NaN}', JSON, 400, "invalid_request"),
        (b"[" * 100_000, JSON, 400, "invalid_request"),
        (DEEP, JSON, 400, "invalid_event"),
        (b'{"name": "a"}', {"content-type": "text/plain"}, 415, "wrong_media_type"),
        (b'{"name": "a"}', {"content-type": "application/json; charset=latin-1"}, 415, "wrong_media_type"),
        (b'{"name": "a"}', {**JSON, "content-encoding": "br"}, 415, "wrong_media_type"),
        (b'{"name": "a"}', GZIP, 400, "invalid_request"),
        (zlib.compress(b'{"name": "a"}', wbits=31)[:-9], GZIP, 400, "invalid_request"),
        (zlib.compress(b" " * 40_000_000, wbits=31), GZIP, 413, "too_large"),
        (b" " * 9_000_000, JSON, 413, "too_large"),
    ],
)
async def test_a_hostile_body_is_refused(
    harness: Harness, web: httpx.AsyncClient, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await web.post(f"{API}/events", content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def test_of_members_with_one_name_the_last_counts(harness: Harness, web: httpx.AsyncClient) -> None:
    text = b'{"name": "shop/order", "id": "x", "id": "y"}'
    assert (await web.post(f"{API}/events", content=text, headers=JSON)).json()["id"] == "y"


async def test_a_gzipped_body_is_read(harness: Harness, web: httpx.AsyncClient) -> None:
    packed = zlib.compress(b'{"name": "shop/order"}', wbits=31)
    assert (await web.post(f"{API}/events", content=packed, headers=GZIP)).status_code == 200


async def test_a_body_that_does_not_come_ends_the_request(
    harness: Harness, link: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body.read_body, "__kwdefaults__", {"max_bytes": 100, "timeout_s": 0.05})
    async with served(make_site(link, SiteOptions(is_dev=True))) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{")
        answer = await asyncio.wait_for(reader.readuntil(b"}"), 5)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"too_slow" in answer
        writer.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "localhost.evil.example"},
        {"host": "127.0.0.1.nip.io:8288"},
        {"host": "["},
        {"host": ""},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"x-forwarded-for": "10.0.0.7"},
    ],
)
async def test_without_keys_only_this_machine_is_served(
    web: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    for method, path in (("GET", "/overview"), ("POST", "/events"), ("GET", "/openapi.json")):
        answer = await web.request(method, API + path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")


async def test_a_store_that_is_away_is_a_problem_with_a_time_to_come_back(
    valkey_server: ValkeyServer,
) -> None:
    with ValkeyServer() as server:
        url = server.url
    from taskflow.config import Config

    link = Connections(Config.resolve("shop", store=url, broker=url, send_timeout="100ms"))
    try:
        site = make_site(link, SiteOptions(is_dev=True))
        transport = httpx.ASGITransport(site)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as web:
            read = await web.get(f"{API}/overview")
            assert (read.status_code, read.json()["code"]) == (503, "store_unavailable")
            assert read.headers["retry-after"] == "1"
            sent = await web.post(f"{API}/events", json={"name": "a"})
            assert (sent.status_code, sent.json()["code"]) == (503, "broker_unavailable")
    finally:
        await link.aclose()


async def test_a_write_is_noted_with_who_why_and_outcome(harness: Harness, web: httpx.AsyncClient) -> None:
    run_id = (await harness.send("shop/order", {"waits": True})).id
    await web.post(f"{API}/runs/{run_id}/cancel", json={"reason": "acme has left"})
    await web.post(f"{API}/runs/{run_id}/rerun", json={"data": {"secret": 1}}, headers={"x-reason": "again"})
    await web.post(f"{API}/runs/nope/cancel")
    entries = (await web.get(f"{API}/audit")).json()["entries"]
    assert [(each["who"], each["what"], each["why"], each["outcome"]) for each in entries] == [
        ("dev", "runs.cancel", "", "run_not_found"),
        ("dev", "runs.rerun", "again", "done"),
        ("dev", "runs.cancel", "acme has left", "done"),
    ]
    assert entries[1]["given"] == {"run_id": run_id}
    page = (await web.get(f"{API}/audit", params={"limit": 1})).json()
    rest = (await web.get(f"{API}/audit", params={"cursor": page["next"]})).json()
    assert page["entries"] + rest["entries"] == entries


async def test_the_description_has_every_operation(harness: Harness, web: httpx.AsyncClient) -> None:
    told = (await web.get(f"{API}/openapi.json")).json()
    assert (told["openapi"], told["info"]["version"]) == ("3.1.0", "1.2.3")
    listed = told["paths"]["/runs"]["get"]
    assert listed["operationId"] == "runs.list"
    assert {each["name"] for each in listed["parameters"]} == {
        "function",
        "status",
        "since",
        "limit",
        "cursor",
    }
    invoke = told["paths"]["/functions/{app}/{function}/invoke"]["post"]
    assert [each["name"] for each in invoke["parameters"]] == ["app", "function", "Idempotency-Key"]
    assert "app" not in invoke["requestBody"]["content"]["application/json"]["schema"]["properties"]
