"""Keys: nobody is let in without one, and each allows no more than it says. Rule S14.4."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from taskflow.connections import Connections
from taskflow.testing import Harness
from taskflow.web.api import ring
from taskflow.web.site import SiteOptions, make_site
from tests.commands.shell import Shell
from tests.waiting import until

ORDER = {"name": "shop/order"}


@pytest.fixture
async def web(link: Connections) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a site that asks for keys, and looks at each request which are valid."""
    transport = httpx.ASGITransport(make_site(link, SiteOptions()))
    async with httpx.AsyncClient(transport=transport, base_url="https://tf.example") as client:
        yield client


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(ring, "LOOK_AGAIN_S", 0.0)


async def make(shell: Shell, *arguments: str) -> str:
    outcome = await shell.arun("keys", "create", *arguments)
    assert outcome.code == 0, outcome.stderr
    return outcome.stdout.strip()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_without_a_key_nobody_is_let_in(harness: Harness, web: httpx.AsyncClient, shell: Shell) -> None:
    event_key = await make(shell, "storefront")
    for headers in ({}, bearer("nope"), bearer(event_key), {"authorization": "Basic x"}, bearer("x" * 5_000)):
        answer = await web.get("/api/v1/overview", headers=headers)
        assert answer.status_code in (401, 403)
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"].startswith("Bearer")
    for path in ("/api/v1/openapi.json", "/api/v1/runs/x/stream", "/v1/events", "/v1/runs/x"):
        assert (await web.get(path)).status_code == 401
    for path in (
        "/e/",
        "/e/nope",
        "/e/a/b",
        "/e/%00",
        f"/e/{event_key}x",
        f"/e/{event_key}/x",
        "/e/" + "k" * 500,
    ):
        answer = await web.post(path, json=ORDER)
        told = answer.json()
        assert answer.status_code == told["status"] == 401, path
        assert told["ids"] == []
    assert (await web.get("/health")).status_code == 200


async def test_an_unknown_key_is_told_by_its_beginning_and_the_namespace(
    harness: Harness, web: httpx.AsyncClient, namespace: str
) -> None:
    told = (await web.post("/e/abcdefghijklmnop", json=ORDER)).json()["error"]
    assert "'abcdefgh'" in told
    assert "abcdefghi" not in told
    assert repr(namespace) in told


async def test_a_scope_has_those_before_it(harness: Harness, web: httpx.AsyncClient, shell: Shell) -> None:
    keys = {scope: await make(shell, scope, "--scope", scope) for scope in ("read", "operate", "admin")}

    async def allowed(method: str, path: str, **more: Any) -> list[str]:
        answers = {
            scope: await web.request(method, f"/api/v1{path}", headers=bearer(key), **more)
            for scope, key in keys.items()
        }
        return [scope for scope, answer in answers.items() if answer.status_code == 200]

    assert await allowed("GET", "/runs") == ["read", "operate", "admin"]
    assert await allowed("POST", "/queues/shop/mail/pause") == ["operate", "admin"]
    assert await allowed("GET", "/keys") == ["admin"]
    refused = (await web.get("/api/v1/keys", headers=bearer(keys["read"]))).json()
    assert (refused["code"], "admin" in refused["detail"]) == ("forbidden", True)
    (entry, *_) = (await web.get("/api/v1/audit", headers=bearer(keys["admin"]))).json()["entries"]
    assert (entry["who"], entry["what"]) == ("key admin", "queues.pause")


async def test_an_event_key_sends_only_the_events_that_it_may(
    harness: Harness, web: httpx.AsyncClient, shell: Shell
) -> None:
    key = await make(shell, "storefront", "--allow", "shop/order", "--allow", "cart/*")
    assert (await web.post(f"/e/{key}", json=[ORDER, {"name": "cart/x"}])).status_code == 200
    refused = await web.post(f"/e/{key}", json=[ORDER, {"name": "shop/broken"}])
    told = refused.json()
    assert (refused.status_code, told["ids"]) == (403, [])
    assert "event 1" in told["error"]
    api_key = await make(shell, "admin", "--scope", "admin")
    assert (await web.post(f"/e/{api_key}", json=ORDER)).status_code == 403


async def test_a_rate_is_kept_and_the_answer_says_when_to_come_back(
    harness: Harness, web: httpx.AsyncClient, shell: Shell
) -> None:
    key = await make(shell, "import", "--rate", "3/h")
    assert (await web.post(f"/e/{key}", json=[ORDER] * 2)).status_code == 200
    refused = await web.post(f"/e/{key}", json=[ORDER] * 2)
    assert refused.status_code == 429
    assert 1_100 < int(refused.headers["retry-after"]) <= 1_200
    assert (await web.post(f"/e/{key}", json=[ORDER])).status_code == 200
    never = await web.post(f"/e/{key}", json=[ORDER] * 4)
    assert (never.status_code, "at a time" in never.json()["error"]) == (429, True)


async def test_a_key_ends_when_its_time_is_over_or_it_is_revoked(
    harness: Harness, web: httpx.AsyncClient, shell: Shell
) -> None:
    short, old, new = [
        await make(shell, *each) for each in (("short", "--expires", "1ms"), ("old",), ("new",))
    ]
    over = await web.post(f"/e/{short}", json=ORDER)
    assert (over.status_code, "was valid until" in over.json()["error"]) == (401, True)
    # Two are valid while one replaces the other.
    assert [(await web.post(f"/e/{key}", json=ORDER)).status_code for key in (old, new)] == [200, 200]
    assert (await shell.arun("keys", "revoke", "old")).stdout == "the key old is not valid any more\n"
    assert [(await web.post(f"/e/{key}", json=ORDER)).status_code for key in (old, new)] == [401, 200]


async def test_keys_are_listed_with_their_last_use_and_never_shown_again(
    harness: Harness, web: httpx.AsyncClient, shell: Shell, link: Connections
) -> None:
    key = await make(shell, "storefront", "--allow", "shop/*", "--rate", "100/s", "--expires", "90d")
    await make(shell, "grafana", "--scope", "read")
    assert re.fullmatch(r"tfe_[\w-]{32}", key)
    await web.post(f"/e/{key}", json=ORDER)
    text = (await shell.arun("keys", "list")).stdout
    assert "events shop/*" in text
    assert "100 in 1 s" in text
    assert key not in text
    told = {each["name"]: each for each in (await shell.arun("keys", "list", "--json")).json}
    assert told["storefront"]["used_ms"] is not None
    assert told["grafana"]["used_ms"] is None
    async with link.session().deadline() as store:
        names = await store.client.call("KEYS", "*")
        kept = [await store.client.call("DUMP", name) for name in names]
    assert not any(key.encode() in (value or b"") for value in kept)


async def test_the_last_use_is_written_once_a_minute(
    harness: Harness, web: httpx.AsyncClient, shell: Shell, link: Connections
) -> None:
    key = await make(shell, "storefront")
    await web.post(f"/e/{key}", json=ORDER)
    first = (await shell.arun("keys", "list", "--json")).json[0]["used_ms"]
    await until(lambda: link.clock.now_ms() > first + 2, description="time passes")
    await web.post(f"/e/{key}", json=ORDER)
    assert (await shell.arun("keys", "list", "--json")).json[0]["used_ms"] == first


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("a b",), "the name of a key"),
        (("x", "--rate", "fast"), "100/s"),
        (("x", "--rate", "0/s"), "100/s"),
        (("x", "--scope", "read", "--allow", "a"), "event keys"),
        (("x", "--expires", "soon"), "expires"),
        (("known",), "there is a key 'known'"),
    ],
)
async def test_a_key_that_can_not_be_made_is_an_error(
    shell: Shell, arguments: tuple[str, ...], part: str
) -> None:
    await make(shell, "known")
    outcome = await shell.arun("keys", "create", *arguments)
    assert (outcome.code, part in outcome.stderr) == (1, True), outcome.stderr


async def test_revoking_an_unknown_key_names_the_one_that_may_be_meant(shell: Shell) -> None:
    await make(shell, "storefront")
    outcome = await shell.arun("keys", "revoke", "storefrnt")
    assert (outcome.code, "'storefront'" in outcome.stderr) == (1, True)


async def test_keys_that_were_known_count_while_the_store_is_away(
    harness: Harness, web: httpx.AsyncClient, shell: Shell, link: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taskflow.errors import StoreUnavailable

    key = await make(shell, "storefront")
    assert (await web.get(f"/e/{key}")).status_code == 200

    async def away(*_: object) -> None:
        raise StoreUnavailable("it is away")

    monkeypatch.setattr(link.session(), "store", away)
    assert (await web.get(f"/e/{key}")).status_code == 200
    assert (await web.get("/e/other")).status_code == 401


async def test_pages_of_any_site_may_send_with_a_key(
    harness: Harness, web: httpx.AsyncClient, shell: Shell
) -> None:
    key = await make(shell, "storefront")
    answer = await web.post(f"/e/{key}", json=ORDER, headers={"origin": "https://shop.example"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-inngest-server-kind"] == "cloud"


async def test_a_key_is_good_as_soon_as_it_is_made(
    harness: Harness, web: httpx.AsyncClient, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring, "LOOK_EVERY_S", 60.0)
    assert (await web.get("/e/unknown")).status_code == 401
    key = await make(shell, "storefront")
    assert (await web.get(f"/e/{key}")).status_code == 200
