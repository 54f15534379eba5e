"""S17.3: a browser that has a token gets messages and runs as they go on, and goes on where it was; others get nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from taskflow import Context, Step, TaskFlow, TopicRef
from taskflow.connections import Connections
from taskflow.realtime.publish import publish_message
from taskflow.realtime.tokens import TopicGrant, make_token
from taskflow.testing import Harness
from taskflow.web.realtime import watching
from taskflow.web.site import SiteOptions, make_site
from tests.commands.shell import Shell
from tests.proxy import Proxy
from tests.waiting import until
from tests.web.server import served

KEY = "k" * 32
LOG: TopicRef[Any] = TopicRef("order:A1", "log")
STATUS: TopicRef[Any] = TopicRef("order:A1", "status")


class Site:
    """A web process with keys, and what a test asks of it."""

    def __init__(self, link: Connections, url: str) -> None:
        self.link = link
        self.url = f"{url}/v1/realtime"

    def token(
        self, channel: str = "order:A1", topics: tuple[str, ...] = ("",), *, ttl_ms: int = 60_000
    ) -> str:
        grants = [TopicGrant(channel, name) for name in topics]
        now_ms = self.link.clock.now_ms()
        return make_token(KEY, grants, namespace=self.link.config.namespace, ttl_ms=ttl_ms, now_ms=now_ms)

    async def publish(self, data: Any, topic: TopicRef[Any] = LOG) -> int:
        return await publish_message(
            self.link.session(), topic, data, max_bytes=1 << 20, now_ms=self.link.clock.now_ms()
        )


class Events:
    """The events of one answer, as `EventSource` reads them."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.lines = answer.aiter_lines()
        self.last_id = ""

    async def frame(self) -> dict[str, Any]:
        """The next frame."""
        async with asyncio.timeout(10):
            while True:
                line = await anext(self.lines)
                if line.startswith("id: "):
                    self.last_id = line[4:]
                elif line.startswith("data: "):
                    frame: dict[str, Any] = orjson.loads(line[6:])
                    return frame

    async def data(self, count: int) -> list[Any]:
        """What the next so many frames carry."""
        return [(await self.frame())["data"] for _ in range(count)]

    async def frames_to_the_end(self) -> list[dict[str, Any]]:
        return [orjson.loads(line[6:]) async for line in self.lines if line.startswith("data: ")]


@asynccontextmanager
async def listening(
    url: str, *, last_event_id: str = "", key: str = "", **query: str
) -> AsyncIterator[Events]:
    """An answer that has begun, behind its first frame."""
    headers = {"last-event-id": last_event_id} if last_event_id else {}
    if key:
        headers["authorization"] = f"Bearer {key}"
    async with (
        httpx.AsyncClient(timeout=10) as client,
        client.stream("GET", f"{url}/sse", params=query, headers=headers) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        events = Events(answer)
        if not any(topic in query.get("topics", "") for topic in ("$run", "$step")):
            assert (await events.frame())["kind"] == "sub"
        yield events


@pytest.fixture
async def site(app: TaskFlow) -> AsyncIterator[Site]:
    link = Connections(dataclasses.replace(app.config, signing_key=KEY))
    async with served(make_site(link, SiteOptions(heartbeat_s=0.05))) as url:
        yield Site(link, url)
    await link.aclose()


async def test_messages_come_as_frames_that_inngests_clients_read(site: Site) -> None:
    async with listening(site.url, token=site.token()) as events:
        message_id = await site.publish({"n": [1, "ü"]})
        frame = await events.frame()
    assert frame.pop("created_at").endswith("Z")
    assert frame == {
        "kind": "data", "channel": "order:A1", "topic": "log", "id": str(message_id), "data": {"n": [1, "ü"]},
    }  # fmt: skip
    assert events.last_id == str(message_id)


async def test_a_browser_that_comes_back_loses_and_doubles_nothing(site: Site) -> None:
    token = site.token()
    async with listening(site.url, token=token) as events:
        await site.publish("one")
        assert await events.data(1) == ["one"]
    await site.publish("two")
    async with listening(site.url, token=token, last_event_id=events.last_id) as back:
        await site.publish("three")
        assert await back.data(2) == ["two", "three"]


async def test_who_leaves_before_the_first_message_goes_on_from_where_it_came(site: Site) -> None:
    async with listening(site.url, token=site.token()) as events:
        came_at = events.last_id
    await site.publish("meanwhile")
    async with listening(site.url, token=site.token(), last_event_id=came_at or "0") as back:
        assert await back.data(1) == ["meanwhile"]


async def test_late_comers_get_what_is_kept_and_are_told_of_a_gap(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskflow.store.messages.KEPT", 3)
    first = await site.publish(0)
    for number in range(1, 6):
        await site.publish(number)
    async with listening(site.url, token=site.token(), since="5m") as late:
        assert await late.data(3) == [3, 4, 5]
    async with listening(site.url, token=site.token(), after=str(first)) as back:
        frames = [await back.frame() for _ in range(3)]
    assert [frame.get("is_after_gap") for frame in frames] == [True, None, None]


async def test_a_token_opens_its_topics_alone(site: Site) -> None:
    async with listening(site.url, token=site.token(topics=("status",))) as events:
        await site.publish("of the log")
        await site.publish("of another channel", TopicRef("order:B2", "status"))
        await site.publish("packed", STATUS)
        assert await events.data(1) == ["packed"]


async def test_a_connection_is_closed_when_its_token_expires(site: Site) -> None:
    async with listening(site.url, token=site.token(ttl_ms=1_500)) as events:
        assert (await events.frames_to_the_end())[-1]["reason"] == "the subscription token has expired"


@pytest.mark.parametrize(
    ("query", "status", "told"),
    [
        ({"token": "no.t.oken"}, 401, "not signed with the key"),
        ({}, 401, "Authorization: Bearer"),
        ({"token": "", "after": "1"}, 401, "three parts"),
    ],
)
async def test_without_a_right_token_there_is_a_problem_and_no_stream(
    site: Site, query: dict[str, str], status: int, told: str
) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{site.url}/sse", params=query)
    assert (answer.status_code, told in answer.text) == (status, True), answer.text
    # Or a page of another origin could not tell it from a lost connection.
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("after", ["x", "-1", "1" * 30, "1_0"])
async def test_a_wrong_place_to_begin_is_a_problem(site: Site, after: str) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{site.url}/sse", params={"token": site.token(), "after": after})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_field")


async def test_without_a_signing_key_tokens_open_nothing(app: TaskFlow) -> None:
    link = Connections(app.config)
    async with served(make_site(link, SiteOptions())) as url, httpx.AsyncClient() as client:
        answer = await client.get(f"{url}/v1/realtime/sse", params={"token": "a.b.c"})
    assert (answer.status_code, "TASKFLOW_SIGNING_KEY" in answer.text) == (403, True)
    await link.aclose()


async def test_a_subscriber_that_takes_nothing_is_dropped_with_the_reason(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Others go on meanwhile, and what waited for it is let go."""
    monkeypatch.setattr(watching, "SEND_TIMEOUT_S", 0.3)
    caplog.set_level(logging.INFO, logger="taskflow.web")
    host, _, port = site.url.removeprefix("http://").removesuffix("/v1/realtime").partition(":")
    _, writer = await asyncio.open_connection(host, int(port), limit=1024)
    async with listening(site.url, token=site.token()) as quick:
        writer.write(f"GET /v1/realtime/sse?token={site.token()} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        large = "x" * 500_000
        for number in range(40):
            await site.publish(large)
            assert len((await quick.frame())["data"]) == 500_000, number
        (feed,) = site.link.feeds().feeds.values()
        await until(lambda: len(feed.readers) == 1, description="the end of the slow subscription")
        await site.publish("still there")
        assert await quick.data(1) == ["still there"]
    assert "the subscriber reads too slowly: the subscriber took nothing for 0.3 s" in caplog.text
    writer.close()


async def test_a_lost_connection_of_the_web_process_to_the_store_loses_no_message(
    app: TaskFlow, valkey_url: str
) -> None:
    config = dataclasses.replace(app.config, signing_key=KEY)
    direct = Connections(config)
    with Proxy(urlsplit(valkey_url).port or 0) as proxy:
        link = Connections(dataclasses.replace(config, store=proxy.url_of(valkey_url)))
        async with served(make_site(link, SiteOptions())) as url:
            site = Site(direct, url)
            async with listening(site.url, token=site.token()) as events:
                await site.publish("before")
                assert await events.data(1) == ["before"]
                for number in range(5):
                    proxy.cut()
                    await site.publish(number)
                assert await events.data(5) == [0, 1, 2, 3, 4]
        await link.aclose()
    await direct.aclose()


# --- runs ---


async def test_a_run_and_its_steps_come_at_once_and_after_each_change(site: Site, app: TaskFlow) -> None:
    @app.function()
    async def work(ctx: Context[Step], step: Step) -> str:
        await step.run("one", lambda: 1)
        await step.wait_for_signal("go", "go", timeout="1h")
        return "done"

    async with Harness(app) as harness:
        run = await harness.start(work)
        token = site.token(run.id, ("$run", "$step"))
        async with listening(site.url, token=token, topics="$run") as events:
            steps = [await events.frame() for _ in range(2)]
            assert [frame["data"]["key"] for frame in steps] == ["one", "go"]
            assert {(frame["kind"], frame["topic"], frame["run_id"]) for frame in steps} == {
                ("step", "$step", run.id)
            }
            assert (await events.frame())["data"]["status"] == "waiting"
            await app.asend_signal("go", 1)
            seen: list[dict[str, Any]] = []
            while not seen or seen[-1]["data"].get("status") != "completed":
                seen.append(await events.frame())
    assert seen[-1]["data"]["output"] == "done"
    assert {frame["data"]["key"] for frame in seen if frame["kind"] == "step"} == {"go"}


async def test_a_run_that_nobody_knows_closes_with_that_reason(site: Site) -> None:
    unknown = "01ARZ3NDEKTSV4RRFFQ69G5FAV-aaaaaa"
    async with listening(site.url, token=site.token(unknown, ("$run",)), topics="$run") as events:
        assert "there is no run" in (await events.frames_to_the_end())[-1]["reason"]


# --- WebSocket ---


async def received(socket: ClientConnection) -> dict[str, Any]:
    """The next frame that is no ping."""
    async with asyncio.timeout(10):
        while (frame := orjson.loads(await socket.recv()))["kind"] == "ping":
            pass
    assert isinstance(frame, dict)
    return frame


async def test_a_websocket_carries_the_same_frames(site: Site) -> None:
    address = site.url.replace("http", "ws")
    async with connect(f"{address}/connect?token={site.token()}") as socket:
        assert (await received(socket))["kind"] == "sub"
        first = await site.publish("one")
        assert (await received(socket))["data"] == "one"
    await site.publish("two")
    async with connect(f"{address}/connect?token={site.token()}&after={first}") as socket:
        assert [(await received(socket))["kind"], (await received(socket))["data"]] == ["sub", "two"]


async def test_a_websocket_without_a_right_token_is_closed_with_the_reason(site: Site) -> None:
    async with connect(f"{site.url.replace('http', 'ws')}/connect?token=a.b.c") as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, "not signed with the key" in closed.value.rcvd.reason) == (1008, True)


# --- with keys ---


async def test_a_key_publishes_and_makes_tokens_as_its_scope_allows(site: Site, shell: Shell) -> None:
    operate, read = [
        (await asyncio.to_thread(shell.run, "keys", "create", scope, "--scope", scope)).stdout.strip()
        for scope in ("operate", "read")
    ]
    async with httpx.AsyncClient() as client:

        async def post(path: str, key: str, **request: Any) -> httpx.Response:
            return await client.post(
                f"{site.url}/{path}",
                headers={"authorization": f"Bearer {key}", **request.pop("headers", {})},
                **request,
            )

        made = await post("token", read, json=[{"channel": "order:A1", "name": "log", "kind": "run"}])
        assert made.status_code == 201
        async with (
            listening(site.url, token=made.json()["jwt"]) as events,
            listening(site.url, key=read, channel="order:A1", topics="log") as by_key,
        ):
            where = {"channel": "order:A1", "topic": "log"}
            for body, kind in (
                (b'{"n":1}', "application/json"),
                (b"7", ""),
                (b"plain", ""),
                (b"7", "text/plain"),
            ):
                assert (
                    await post("publish", operate, params=where, content=body, headers={"content-type": kind})
                ).status_code == 200
            assert await events.data(4) == [{"n": 1}, 7, "plain", "7"]
            assert await by_key.data(4) == [{"n": 1}, 7, "plain", "7"]
        refusals = [
            await post("publish", read, params=where, content=b"1"),
            await post("publish", operate, params={"channel": "a b", "topic": "log"}, content=b"1"),
            await post("publish", operate, params=where, content=b"x" * 300_000),
            await post(
                "publish", operate, params=where, content=b"{", headers={"content-type": "application/json"}
            ),
            await post("publish", operate, params=where, content=b"\xff"),
            await post("token", read, json=[]),
            await post("token", read, json=["log"]),
        ]
    assert [answer.status_code for answer in refusals] == [403, 400, 413, 400, 400, 400, 400]


async def test_in_development_who_is_on_this_machine_needs_no_token(app: TaskFlow) -> None:
    link = Connections(app.config)
    async with served(make_site(link, SiteOptions(is_dev=True))) as url:
        site = Site(link, url)
        async with listening(site.url, channel="order:A1") as events:
            await site.publish("one")
            assert await events.data(1) == ["one"]
        async with httpx.AsyncClient() as client:
            answer = await client.get(
                f"{site.url}/sse", params={"channel": "order:A1"}, headers={"origin": "https://evil.example"}
            )
    assert answer.status_code == 403
    await link.aclose()
