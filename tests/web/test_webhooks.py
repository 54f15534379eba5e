"""Webhooks over HTTP: who is let in, what is kept, what is sent, and how a request is replayed. Rule S14.7."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskflow import ConfigError, Context, Event, Step, TaskFlow, WebhookRequest, verify
from taskflow.connections import Connections
from taskflow.testing import Harness
from taskflow.web import webhooks as web_webhooks
from taskflow.web.catalogue.operation import Desk
from taskflow.web.catalogue.post import Post
from taskflow.web.catalogue.problems import Problem
from taskflow.web.site import SiteOptions, make_site
from taskflow.web.webhooks import AppWebhooks, replay
from tests.commands.shell import Shell
from tests.web.conftest import BASE

SECRET = "s3cret-of-github"


def signed(body: bytes, *, secret: str = SECRET, delivery: str = "d-1") -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {
        "x-hub-signature-256": f"sha256={digest}",
        "x-github-delivery": delivery,
        "content-type": "application/json",
        "cookie": "session=private",
    }


@pytest.fixture
def broken() -> dict[str, bool]:
    """Whether the function of the webhook has a fault."""
    return {"is": False}


@pytest.fixture
async def hooked(
    app: TaskFlow, broken: dict[str, bool], link: Connections
) -> AsyncIterator[tuple[httpx.AsyncClient, Harness]]:
    """A site that takes webhooks, from anywhere, and a worker."""

    @app.webhook("github", verify=verify.github(SECRET), max_bytes=1_000)
    async def github(request: WebhookRequest) -> Event | list[Event] | None:
        if broken.get("hangs"):
            await asyncio.Event().wait()
        if broken["is"]:
            raise KeyError("repository")
        match request.body:
            case {"action": "none"}:
                return None
            case {"action": "two"}:
                return [Event("git/push", {"n": 1}), Event("git/push", {"n": 2}, id="own")]
        return Event(
            "git/push", {"ref": request.body["ref"], "delivery": request.headers["x-github-delivery"]}
        )

    @app.webhook(
        "slack", verify=verify.nothing(), reply=lambda request: (request.body or {}).get("challenge")
    )
    def slack(request: WebhookRequest) -> Event:
        return Event("chat/said", {"text": request.body["text"], "from": request.query["from"][0]})

    @app.function(trigger="git/push")
    async def build(ctx: Context[Step]) -> Any:
        return ctx.event.data

    site = make_site(link, SiteOptions(webhooks=AppWebhooks.of(app)))
    async with Harness(app) as harness:
        transport = httpx.ASGITransport(site)
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            yield client, harness


Hooked = tuple[httpx.AsyncClient, Harness]
ADDRESS = "/webhooks/shop/github"


async def test_a_request_that_is_signed_becomes_events_and_is_kept(hooked: Hooked) -> None:
    client, harness = hooked
    body = b'{"ref": "main"}'
    sent = await client.post(ADDRESS, content=body, headers=signed(body))
    assert (sent.status_code, len(sent.json()["ids"])) == (200, 1)
    await harness.settled()
    (run,) = await harness.apps[0].aruns("shop/build")
    assert await harness.apps[0].run(run.run_id).aresult() == {"ref": "main", "delivery": "d-1"}
    (kept,) = await harness.store.webhooks.newest(limit=5)
    assert (kept.webhook, kept.outcome, kept.delivery, list(kept.events)) == (
        "shop/github", "sent", "d-1", sent.json()["ids"],
    )  # fmt: skip
    whole = await harness.store.webhooks.find(kept.id)
    assert whole is not None and whole.body == body
    assert "cookie" not in whole.headers and SECRET not in repr(whole)


async def test_a_delivery_that_comes_again_starts_nothing_twice(hooked: Hooked) -> None:
    client, harness = hooked
    body = b'{"action": "two"}'
    for _ in range(2):
        assert (await client.post(ADDRESS, content=body, headers=signed(body))).status_code == 200
    await harness.settled()
    assert len(await harness.apps[0].aruns("shop/build")) == 2
    event = await harness.apps[0].event("own", name="git/push").aview()
    assert event.data == {"n": 2}


async def test_nothing_is_kept_of_a_request_that_is_not_verified(
    hooked: Hooked, caplog: pytest.LogCaptureFixture
) -> None:
    client, harness = hooked
    body = b'{"ref": "main"}'
    wrong = signed(body, secret="guess")
    for headers in (
        wrong,
        {"content-type": "application/json"},
        {**signed(body), "x-hub-signature-256": "x"},
    ):
        refused = await client.post(ADDRESS, content=body, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (401, "unverified")
        assert SECRET not in refused.text + caplog.text
    assert await harness.store.webhooks.newest(limit=5) == []
    for path, status in (("/webhooks/shop/none", 404), ("/webhooks/other/github", 404)):
        assert (await client.post(path, content=body, headers=signed(body))).status_code == status
    assert (await client.get(ADDRESS)).status_code == 405
    large = b" " * 1_001
    assert (await client.post(ADDRESS, content=large, headers=signed(large))).status_code == 413


async def test_a_request_may_bring_no_event_or_ask_for_an_answer(hooked: Hooked) -> None:
    client, harness = hooked
    body = b'{"action": "none"}'
    sent = await client.post(ADDRESS, content=body, headers=signed(body))
    assert (sent.status_code, sent.json()["ids"]) == (200, [])
    assert [each.outcome for each in await harness.store.webhooks.newest(limit=5)] == ["ignored"]
    asked = await client.post("/webhooks/shop/slack", json={"challenge": "c-1"})
    assert asked.json() == "c-1"
    assert (await client.post("/webhooks/shop/slack?from=ann", json={"text": "hi"})).status_code == 200


async def test_a_request_whose_function_fails_is_replayed_once_that_is_mended(
    hooked: Hooked, broken: dict[str, bool], link: Connections
) -> None:
    """Its sender is told that it came, and need not come again."""
    client, harness = hooked
    body = b'{"ref": "main"}'
    broken["is"] = True
    sent = await client.post(ADDRESS, content=body, headers=signed(body))
    assert (sent.status_code, sent.json()["ids"]) == (202, [])
    assert "KeyError" in sent.json()["error"]
    desk, hooks = Desk(link, Post(link)), AppWebhooks.of(harness.apps[0])
    request_id = sent.json()["kept_as"]
    assert (await replay(desk, hooks, request_id)).error == "KeyError: 'repository'"
    broken["is"] = False
    for _ in range(2):
        delivered = await replay(desk, hooks, request_id)
        assert (delivered.outcome, delivered.error) == ("sent", None)
    await harness.settled()
    assert len(await harness.apps[0].aruns("shop/build")) == 1
    assert [each.outcome for each in await harness.store.webhooks.newest(limit=5)] == ["sent"]
    with pytest.raises(Problem, match="there is no request"):
        await replay(desk, hooks, "nope")


async def test_a_function_that_does_not_return_fails_its_request(
    hooked: Hooked, broken: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = hooked
    broken["hangs"] = True
    monkeypatch.setattr(web_webhooks, "TRANSFORM_TIMEOUT_S", 0.0)
    body = b'{"ref": "main"}'
    sent = await client.post(ADDRESS, content=body, headers=signed(body))
    assert (sent.status_code, sent.json()["error"]) == (202, "the function took longer than 0 s")


async def test_the_oldest_requests_go_first(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.store.test_repeats import HOOK

    monkeypatch.setattr("taskflow.store.webhooks.MOST_KEPT", 3)
    monkeypatch.setattr("taskflow.store.webhooks.MOST_BYTES", 1_000)
    from dataclasses import replace

    kept = harness.store.webhooks
    for number in range(5):
        await kept.keep(replace(HOOK, id=f"W{number}", at_ms=HOOK.at_ms + number))
    assert [each.id for each in await kept.newest(limit=9)] == ["W4", "W3", "W2"]
    assert [each.id for each in await kept.newest(limit=9, after=1)] == ["W3", "W2"]
    await kept.keep(replace(HOOK, id="large", at_ms=HOOK.at_ms + 9, size=999))
    assert [each.id for each in await kept.newest(limit=9)] == ["large"]
    assert await kept.find("W4") is None
    await kept.keep(replace(HOOK, id="late", at_ms=HOOK.at_ms + 8 * 86_400_000))
    assert [each.id for each in await kept.newest(limit=9)] == ["late"]


def test_a_webhook_that_is_not_right_is_refused_where_it_is_made(app: TaskFlow) -> None:
    def make(request: WebhookRequest) -> None: ...

    assert app.webhook("one", verify=verify.nothing())(make) is make
    for name, options, told in (
        ("one", {"verify": verify.nothing()}, "already"),
        ("two", {}, "verify.github"),
        ("two", {"verify": "secret"}, "verify.github"),
        ("a/b", {"verify": verify.nothing()}, "name of a webhook"),
        ("two", {"verify": verify.nothing(), "max_bytes": 10**9}, "max_bytes"),
    ):
        with pytest.raises(ConfigError, match=told):
            app.webhook(name, **options)(make)
    with pytest.raises(TypeError, match="verify"):
        app.webhook("two", verfy=verify.nothing())(make)  # type: ignore[call-arg]


SHOP = """
from taskflow import Event, TaskFlow, verify

app = TaskFlow("shop")

@app.webhook("github", verify=verify.github("s"))
def github(request):
    if "ref" not in request.body:
        raise KeyError("ref")
    return Event("git/push", {"ref": request.body["ref"], "kind": request.headers.get("x-github-event")})
"""


async def test_on_the_command_line(shell: Shell, hooked: Hooked, broken: dict[str, bool], tmp_path: Path,
                                   monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    client, harness = hooked
    broken["is"] = True
    body = b'{"ref": "main"}'
    request_id = (await client.post(ADDRESS, content=body, headers=signed(body))).json()["kept_as"]
    (tmp_path / "webhook_shop.py").write_text(SHOP)
    monkeypatch.syspath_prepend(tmp_path)
    listed = (await shell.arun("webhooks", "list", "--failed", "--json")).json
    assert [(each["id"], each["outcome"]) for each in listed] == [(request_id, "failed")]
    assert request_id in (await shell.arun("webhooks", "list")).stdout
    tried = await shell.arun(
        "webhooks", "test", "github", "-", "--header", "X-GitHub-Event=push", "-A", "webhook_shop:app", "--json",
        stdin=json.dumps({"ref": "dev"}),
    )  # fmt: skip
    assert tried.json == [{"name": "git/push", "data": {"ref": "dev", "kind": "push"}}]
    failed = await shell.arun("webhooks", "test", "github", "-", "-A", "webhook_shop:app", stdin="{}")
    assert (failed.code, "KeyError" in failed.stderr) == (1, True)
    replayed = await shell.arun("webhooks", "replay", request_id, "-A", "webhook_shop:app")
    assert (replayed.code, replayed.stdout.startswith("sent: ")) == (0, True), replayed.stderr
    await harness.settled()
    assert len(await harness.apps[0].aruns("shop/build")) == 1
    assert (await shell.arun("webhooks", "list", "--failed")).stdout.strip() == "no requests"
