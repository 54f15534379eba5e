"""Inngest's own SDKs send events here unmodified, in development and with keys. Rule S14.3."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskflow import TaskFlow, TopicRef
from taskflow.connections import Connections
from taskflow.realtime.publish import publish_message
from taskflow.realtime.tokens import TopicGrant, make_token
from taskflow.testing import Harness
from taskflow.web.site import SiteOptions, make_site
from tests.commands.shell import Shell
from tests.waiting import until
from tests.web.browser import NODE_FOLDER
from tests.web.server import served

FOLDER = Path(__file__).parent
COMMANDS = {
    "python": (sys.executable, str(FOLDER / "send_by_sdk.py")),
    "node": ("node", str(NODE_FOLDER / "send.mjs")),
}
SDKS = pytest.mark.parametrize("sdk", ["python", pytest.param("node", marks=pytest.mark.node)])


@pytest.fixture
async def dev_url(link: Connections) -> AsyncIterator[str]:
    async with served(make_site(link, SiteOptions(is_dev=True))) as url:
        yield url


@pytest.fixture
async def closed_url(link: Connections) -> AsyncIterator[str]:
    async with served(make_site(link, SiteOptions())) as url:
        yield url


def order(sku: str, **more: Any) -> dict[str, Any]:
    return {"name": "shop/order", "data": {"sku": sku}, **more}


async def send(sdk: str, *events: Any, **variables: str) -> dict[str, Any]:
    """What the SDK says when it sends these events with these INNGEST_* variables."""
    process = await asyncio.create_subprocess_exec(
        *COMMANDS[sdk], json.dumps(events), stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **{f"INNGEST_{name}": value for name, value in variables.items()}},
    )  # fmt: skip
    out, _ = await process.communicate()
    told: dict[str, Any] = json.loads(out.splitlines()[-1])
    return told


async def outputs(harness: Harness, link: Connections, uids: list[str]) -> list[Any]:
    """The results of the runs that these events started."""
    # SDKs send the real time with each event, at which the harness's clock, which stands still, has to arrive.
    await harness.advance(minutes=5)
    site = httpx.ASGITransport(make_site(link, SiteOptions(is_dev=True)))
    async with httpx.AsyncClient(transport=site, base_url="http://localhost") as web:
        found = [(await web.get(f"/v1/events/{uid}/runs")).json()["data"] for uid in uids]
    return [run["output"] for runs in found for run in runs]


@SDKS
async def test_an_sdk_sends_in_development_and_shows_what_is_wrong(
    sdk: str, harness: Harness, link: Connections, dev_url: str
) -> None:
    sent, refused = await asyncio.gather(
        send(sdk, order("A7", id="o-7"), order("B1"), order("C3"), DEV=dev_url),
        send(sdk, order("D", id="x" * 300), DEV=dev_url),
    )
    assert await outputs(harness, link, sent["ids"]) == ["sent A7", "sent B1", "sent C3"]
    assert "id must be a str of 1 to 256 characters" in refused["error"]


@SDKS
async def test_an_sdk_sends_with_a_key_and_shows_why_a_key_is_refused(
    sdk: str, harness: Harness, link: Connections, closed_url: str, shell: Shell
) -> None:
    key = (await shell.arun("keys", "create", "storefront", "--allow", "shop/order")).stdout.strip()
    place = {"EVENT_API_BASE_URL": closed_url, "BASE_URL": closed_url, "SIGNING_KEY": "signkey-test-00"}
    sent, forbidden, wrong = await asyncio.gather(
        send(sdk, order("A7"), order("B1"), EVENT_KEY=key, **place),
        send(sdk, {"name": "shop/broken", "data": {}}, EVENT_KEY=key, **place),
        send(sdk, order("C3"), EVENT_KEY="wrong", **place),
    )
    assert await outputs(harness, link, sent["ids"]) == ["sent A7", "sent B1"]
    assert "may not send 'shop/broken'" in forbidden["error"]
    assert "there is no key in namespace" in wrong["error"]


@pytest.mark.node
async def test_inngests_realtime_client_subscribes_unmodified(app: TaskFlow) -> None:
    """S17.3: over a WebSocket, with a token that the app made."""
    link = Connections(dataclasses.replace(app.config, signing_key="k" * 32))
    topic: TopicRef[Any] = TopicRef("order:A1", "log")
    now_ms = link.clock.now_ms()
    token = make_token(
        "k" * 32, [TopicGrant(topic.channel, topic.name)], namespace=app.config.namespace, ttl_ms=60_000, now_ms=now_ms
    )  # fmt: skip
    async with served(make_site(link, SiteOptions())) as url:
        process = await asyncio.create_subprocess_exec(
            # Node has WebSocket without the flag from version 22 on.
            "node", "--experimental-websocket", str(NODE_FOLDER / "subscribe.mjs"), token, "2",
            stdout=asyncio.subprocess.PIPE, env={"PATH": os.environ["PATH"], "INNGEST_API_BASE_URL": url},
        )  # fmt: skip
        assert process.stdout is not None
        assert await process.stdout.readline() == b"open\n"
        await until(
            lambda: any(feed.readers for feed in link.feeds().feeds.values()), description="the subscriber"
        )
        for number in range(2):
            await publish_message(link.session(), topic, {"n": number}, max_bytes=1_000, now_ms=now_ms)
        told = [json.loads(line) async for line in process.stdout]
        assert await process.wait() == 0
    await link.aclose()
    assert told == [
        {"channel": "order:A1", "topic": "log", "data": {"n": number}, "kind": "data"} for number in range(2)
    ]
