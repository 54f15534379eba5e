"""What a page lets a person do, who may, and that no other site can do it in their name. Rules S14.4, S14.5."""

from __future__ import annotations

import httpx
import pytest

from taskflow.connections import Connections
from taskflow.testing import Harness
from taskflow.web.site import SiteOptions, make_site
from tests.commands.shell import Shell
from tests.web.conftest import BASE

OURS = {"sec-fetch-site": "same-origin", "origin": BASE}


async def post(web: httpx.AsyncClient, path: str, **form: str) -> httpx.Response:
    return await web.post(path, data=form, headers=OURS)


async def test_a_run_is_cancelled_with_a_reason_that_the_audit_list_has(
    harness: Harness, web: httpx.AsyncClient
) -> None:
    run = (await harness.send("shop/order", {"waits": True})).id
    asked = await web.get("/do/runs.cancel", params={"run_id": run})
    assert "Cancel this run?" in asked.text
    done = await post(web, "/do/runs.cancel", run_id=run, reason="sold <out>")
    assert (done.status_code, done.headers["location"]) == (303, f"/runs/{run}")
    await harness.settled()
    assert "cancelled: sold &lt;out&gt;" in (await web.get(f"/runs/{run}")).text
    audit = (await web.get("/audit")).text
    assert "runs.cancel" in audit
    assert "sold &lt;out&gt;" in audit


async def test_a_failed_run_is_run_again_with_other_data(harness: Harness, web: httpx.AsyncClient) -> None:
    run = (await harness.send("shop/order", {"sku": "A7"})).id
    done = await post(web, "/do/runs.rerun", run_id=run, data='{"sku": "B8"}', reason="")
    path = done.headers["location"]
    await harness.settled()
    text = (await web.get(path)).text
    assert path != f"/runs/{run}"
    assert "sent B8" in text
    assert f'href="/runs/{run}"' in text


async def test_a_run_goes_on_from_a_step_with_an_edited_outcome(
    harness: Harness, web: httpx.AsyncClient
) -> None:
    run = (await harness.send("shop/order")).id
    done = await post(web, "/do/runs.rerun", run_id=run, from_step="reserve", output='"shelf 9"')
    await harness.settled()
    text = (await web.get(f"{done.headers['location']}?step=reserve")).text
    assert "&#34;shelf 9&#34;" in text


async def test_a_form_that_is_wrong_is_shown_again_with_what_was_filled_in(
    harness: Harness, web: httpx.AsyncClient
) -> None:
    run = (await harness.send("shop/order")).id
    asked = await web.get(
        "/do/runs.rerun", params={"run_id": run, "from_step": "reserve"},
        headers={"referer": f"{BASE}/runs/{run}?step=reserve"},
    )  # fmt: skip
    assert f'href="/runs/{run}?step=reserve"' in asked.text
    refused = await post(
        web, "/do/runs.rerun", run_id=run, from_step="reserve", output="{shelf 9", reason="moved", back=f"/runs/{run}?step=reserve",
    )  # fmt: skip
    assert (refused.status_code, "output must be JSON" in refused.text) == (400, True)
    assert "{shelf 9</textarea>" in refused.text
    assert 'value="moved"' in refused.text
    assert f'href="/runs/{run}?step=reserve"' in refused.text
    for elsewhere in ("https://evil.example/runs", "http://localhost:9/runs", "javascript:alert(1)"):
        asked = await web.get("/do/events.send", headers={"referer": elsewhere})
        assert 'href="/">Back</a>' in asked.text


async def test_the_signal_that_a_run_waits_for_is_sent(harness: Harness, web: httpx.AsyncClient) -> None:
    run = (await harness.send("shop/order", {"waits": True, "sku": "A7"})).id
    done = await post(web, "/do/signals.send", app="shop", name="approve", data="")
    assert done.headers["location"] == f"/runs/{run}"
    await harness.settled()
    assert "sent A7" in (await web.get(f"/runs/{run}")).text


async def test_an_event_is_sent_and_its_page_names_the_runs_that_it_started(
    harness: Harness, web: httpx.AsyncClient
) -> None:
    done = await post(web, "/do/events.send", name="shop/order", data='{"sku": "C3"}')
    await harness.settled()
    text = (await web.get(done.headers["location"])).text
    assert "shop/fulfil" in text
    assert "C3" in text


async def test_a_function_is_paused_resumed_and_started(harness: Harness, web: httpx.AsyncClient) -> None:
    paused = await post(web, "/do/functions.pause", app="shop", function="post", reason="mail is down")
    assert "Paused" in (await web.get(paused.headers["location"])).text
    await post(web, "/do/functions.resume", app="shop", function="post", replay_skipped="on")
    assert "Paused" not in (await web.get(paused.headers["location"])).text
    started = await post(web, "/do/functions.invoke", app="shop", function="post", data='{"n": 1}')
    await harness.settled()
    assert "posted" in (await web.get(started.headers["location"])).text


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "none"},
        {"origin": "null"}, {"origin": "http://localhost:9999"},
        {"sec-fetch-site": "cross-site", "origin": BASE},
    ],
)  # fmt: skip
async def test_a_form_of_another_site_does_nothing(
    harness: Harness, web: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    run = (await harness.send("shop/order", {"waits": True})).id
    for path in ("/do/runs.cancel", "/theme", "/sign-out", "/sign-in"):
        assert (await web.post(path, data={"run_id": run}, headers=headers)).status_code == 403, path
    assert (await web.get(f"/api/v1/runs/{run}")).json()["status"] == "waiting"


async def test_only_what_is_an_action_can_be_called(web: httpx.AsyncClient) -> None:
    assert (await post(web, "/do/keys.create", name="mine", scope="admin")).status_code == 404
    assert (await web.get("/do/keys.create")).status_code == 404


async def test_a_browser_signs_in_with_a_key_and_may_do_what_the_key_may(
    harness: Harness, link: Connections, shell: Shell
) -> None:
    key = (await shell.arun("keys", "create", "viewer", "--scope", "read")).stdout.strip()
    run = (await harness.send("shop/order", {"waits": True})).id
    transport = httpx.ASGITransport(make_site(link, SiteOptions()))
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as web:
        closed = await web.get("/runs")
        assert (closed.status_code, 'name="key"' in closed.text) == (401, True)
        assert run not in closed.text
        assert (await post(web, "/sign-in", key="wrong")).status_code == 401
        entered = await post(web, "/sign-in", key=key)
        cookie = entered.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert run in (await web.get("/runs")).text
        assert (await web.get("/audit")).status_code == 403
        assert (await post(web, "/do/runs.cancel", run_id=run)).status_code == 403
        # The cookie is for pages: the API takes keys by their header alone.
        assert (await web.get("/api/v1/runs")).status_code == 401
        await post(web, "/sign-out")
        assert (await web.get("/runs")).status_code == 401


async def test_the_theme_is_kept_and_leads_back_to_this_site_only(web: httpx.AsyncClient) -> None:
    chosen = await post(web, "/theme", theme="dark", back="/runs")
    assert chosen.headers["location"] == "/runs"
    assert '<html lang="en" data-theme="dark">' in (await web.get("/")).text
    for back in ("//evil.example", "https://evil.example", "/\\evil.example"):
        assert (await post(web, "/theme", theme="", back=back)).headers["location"] == "/"
    assert "data-theme" not in (await web.get("/")).text
