"""The pages on a real store: what each shows, and that none leaves its prefix or runs what a user wrote. Rule S14.5."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections import deque
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from taskflow import TaskFlow
from taskflow.connections import Connections
from taskflow.store import listing
from taskflow.testing import Harness
from taskflow.values.text import printable
from taskflow.web.pages.assets import assets
from taskflow.web.pages.timeline import tick_ms
from taskflow.web.serve import Prefixed
from taskflow.web.site import SiteOptions, make_site
from tests.web.pages.reader import PageReader

PAGES = (
    "/",
    "/runs",
    "/errors",
    "/functions",
    "/events",
    "/queues",
    "/workers",
    "/dead-letters",
    "/audit",
    "/sign-in",
)
HOSTILE = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'-alert(1)-'", "</pre></textarea><svg onload=alert(1)>",
    "{{7*7}}{% raw %}", "javascript:alert(1)", "a\x1b[31mred", "\u202egnp.exe", "&lt;b&gt;",
)  # fmt: skip
ALLOWED_TAGS = {
    "html", "head", "meta", "title", "link", "script", "body", "a", "header", "img", "form", "input", "nav", "ul", "li", "div", "p",
    "span", "button", "main", "h1", "h2", "h3", "section", "b", "i", "code", "pre", "table", "thead", "tbody", "tr", "th", "td",
    "kbd", "time", "label", "select", "option", "textarea", "dl", "dt", "dd", "aside", "svg", "rect", "text", "details", "summary",
}  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
async def test_a_deployment_without_anything_has_pages_that_say_what_to_do(
    web: httpx.AsyncClient, path: str
) -> None:
    answer = await web.get(path)
    page = PageReader(answer.text)
    assert answer.status_code == 200
    assert page.tags.count("h1") == 1
    assert (page.refused, page.unlabelled) == ([], [])
    assert len(page.ids) == len(set(page.ids))
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]


async def test_the_overview_has_live_runs_failures_and_what_is_wrong(
    harness: Harness, web: httpx.AsyncClient
) -> None:
    await harness.send("shop/order", {"waits": True})
    failed = (await harness.send("shop/broken")).id
    await web.post("/api/v1/functions/shop/post/pause")
    text = (await web.get("/")).text
    assert "ValueError: no stock" in text
    assert f'href="/runs/{failed}"' in text
    assert "taskflow resume shop/post" in text
    assert re.search(r"<b>1</b><span class=\"st st-waiting\">", text)


async def test_failed_runs_are_grouped_by_what_failed(harness: Harness, web: httpx.AsyncClient) -> None:
    runs = [(await harness.send("evil", {"text": text})).id for text in ("one", "two")]
    await harness.send("shop/broken")
    text = (await web.get("/errors")).text
    told = [re.sub(r"<[^>]+>|\s+", " ", row) for row in re.findall(r"<tr>.*?</tr>", text, re.DOTALL)[1:]]
    assert [re.sub(" +", " ", row).split(" now")[0].strip() for row in told] == [
        "ValueError shown.py, in evil shop/evil two 2", "ValueError shop.py, in broken shop/broken no stock 1",
    ]  # fmt: skip
    assert f'href="/runs/{runs[1]}"' in text


async def test_an_event_that_no_worker_has_routed_yet_has_a_page_that_waits_for_it(
    web: httpx.AsyncClient,
) -> None:
    uid = "01Q3DCBD0042RTK73KFTEN78P3"
    sent = await web.get(f"/events/{uid}?sent")
    assert (sent.status_code, 'data-every="2"' in sent.text) == (200, True)
    assert (await web.get(f"/events/{uid}")).status_code == 404


async def test_the_list_of_runs_is_filtered_by_its_address(harness: Harness, web: httpx.AsyncClient) -> None:
    done, failed = (await harness.send("shop/order")).id, (await harness.send("shop/broken")).id
    text = (await web.get("/runs?status=failed&since=1h")).text
    assert (failed in text, done in text) == (True, False)
    assert done in (await web.get("/runs?function=shop/fulfil")).text
    nothing = (await web.get("/runs?status=cancelled")).text
    assert "No run matches these filters." in nothing
    assert (await web.get("/runs?status=broken")).status_code == 400


async def test_a_page_on_which_nothing_was_found_yet_leads_on(
    harness: Harness, web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of some status looks at so many runs at a time. Here a few."""
    monkeypatch.setattr(listing, "MOST_LOOKS", 2)
    done = (await harness.send("shop/order")).id
    for _ in range(4):
        await harness.send("shop/broken")
    first = (await web.get("/runs?status=completed")).text
    assert "None of the runs looked at so far matches these filters." in first
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older is not None
    path = older[1].replace("&amp;", "&")
    assert "status=completed" in path
    for _ in range(3):
        text = (await web.get(path)).text
        if done in text:
            return
        path = re.findall(r'rel="next" href="([^"]+)"', text)[0].replace("&amp;", "&")
    raise AssertionError("the run was not found")


async def test_pages_of_runs_have_neither_gap_nor_double(
    harness: Harness, link: Connections, web: httpx.AsyncClient
) -> None:
    await harness.settled()
    control = link.control()
    spec = await control.spec("shop/post")
    made = {await control.invoke(spec, None) for _ in range(120)}
    seen: list[str] = []
    path: str | None = "/runs"
    while path is not None:
        text = (await web.get(path)).text
        seen += re.findall(r'<tr id="r-([^"]+)"', text)
        found = re.search(r'rel="next" href="([^"]+)"', text)
        path = found[1].replace("&amp;", "&") if found else None
    assert len(seen) == len(set(seen)) == 120
    assert set(seen) == made


async def test_the_page_of_a_run_has_its_steps_as_bars_and_the_command_that_ends_its_wait(
    harness: Harness, web: httpx.AsyncClient
) -> None:
    run = (await harness.send("shop/order", {"waits": True})).id
    text = (await web.get(f"/runs/{run}?step=reserve")).text
    assert text.count('class="bar"') == 2
    assert 'rect class="work"' in text
    assert "taskflow signal approve --app shop" in text
    assert "&#34;shelf 7&#34;" in text  # the output of the chosen step


async def test_the_command_that_ends_a_wait_can_be_pasted_into_a_shell(
    harness: Harness, web: httpx.AsyncClient
) -> None:
    run = await harness.send("shop/parcel", {"parcel": {"id": 7}})
    page = html.unescape((await web.get(f"/runs/{run.id}")).text)
    (command,) = re.findall(r"<code>(taskflow send .*)</code>", page)
    program, verb, name, data = shlex.split(command)
    assert (program, verb, name) == ("taskflow", "send", "shop/it's there")
    await harness.apps[0].asend(name, json.loads(data))
    await harness.settled()
    assert await harness.status(run) == "completed"


async def test_a_browser_gets_a_page_for_an_address_that_does_not_exist(web: httpx.AsyncClient) -> None:
    browser = await web.get("/nothing", headers={"accept": "text/html"})
    assert (browser.status_code, "there is no page /nothing" in browser.text) == (404, True)
    assert PageReader(browser.text).tags.count("nav") == 1
    assert (await web.get("/api/v1/nothing", headers={"accept": "text/html"})).json()["code"] == "not_found"


def test_the_axis_has_few_and_round_times() -> None:
    spans = (1, 3, 999, 1_600, 61_000, 3_600_000, 40 * 86_400_000, 9_000 * 86_400_000)
    ticks = [tick_ms(span) for span in spans]
    assert ticks == [1, 1, 500, 500, 20_000, 1_200_000, 30 * 86_400_000, 2_250 * 86_400_000]


async def test_failed_attempts_are_drawn_and_told(harness: Harness, web: httpx.AsyncClient) -> None:
    run = (await harness.send("shop/flaky")).id
    await harness.advance(hours=1)
    text = (await web.get(f"/runs/{run}?step=charge")).text
    assert text.count('rect class="failed"') == 2
    assert text.count("<summary>ValueError: declined") == 2
    assert "ValueError: declined" in text


async def test_many_similar_steps_are_folded_until_all_are_asked_for(
    harness: Harness, web: httpx.AsyncClient
) -> None:
    run = (await harness.send("shop/many")).id
    folded, whole = (await web.get(f"/runs/{run}")).text, (await web.get(f"/runs/{run}?all")).text
    assert folded.count('class="bar"') < 12
    assert "97 more" in folded
    assert whole.count('class="bar"') == 100


async def test_a_region_that_did_not_change_is_not_sent_again(harness: Harness, web: httpx.AsyncClient) -> None:  # fmt: skip
    await harness.send("shop/order")
    first = await web.get("/runs?part=main")
    assert first.text.lstrip().startswith("<main")
    again = await web.get("/runs?part=main", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.text) == (304, "")
    await harness.send("shop/broken")
    changed = await web.get("/runs?part=main", headers={"if-none-match": first.headers["etag"]})
    assert changed.status_code == 200


async def test_search_goes_to_what_the_text_names(harness: Harness, web: httpx.AsyncClient) -> None:
    run = (await harness.send("shop/order")).id
    uid = run.partition("-")[0]
    assert (await web.get("/search", params={"q": run})).headers["location"] == f"/runs/{run}"
    assert (await web.get("/search", params={"q": "shop/post"})).headers[
        "location"
    ] == "/runs?function=shop%2Fpost"
    assert (await web.get("/search", params={"q": uid})).headers["location"] in (
        f"/runs/{run}",
        f"/events/{uid}",
    )
    assert (await web.get("/search", params={"q": "nothing-<b>"})).status_code == 404


async def test_assets_are_small_and_kept_by_browsers(web: httpx.AsyncClient) -> None:
    for asset in assets().values():
        answer = await web.get(f"/assets/{asset.name}")
        assert "immutable" in answer.headers["cache-control"]
        assert answer.content == asset.content
    assert sum(len(asset.content) for asset in assets().values()) < 150_000
    assert (await web.get("/assets/pages.css")).status_code == 404


async def test_every_link_stays_below_the_prefix_and_answers(
    app: TaskFlow, harness: Harness, link: Connections
) -> None:
    await harness.send("shop/order", {"waits": True})
    await harness.send("shop/broken")
    site = Prefixed(make_site(link, SiteOptions(is_dev=True)), "/a/b")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url="http://localhost") as web:
        todo, seen = deque(["/a/b/"]), {"/a/b/"}
        while todo:
            here = todo.popleft()
            answer = await web.get(here)
            assert answer.status_code == 200, here
            if "html" not in answer.headers["content-type"]:
                continue
            page = PageReader(answer.text)
            assert (page.refused, page.unlabelled) == ([], []), here
            assert len(page.ids) == len(set(page.ids)), here
            for target in page.links:
                whole = urlsplit(urljoin(f"http://localhost{here}", target))
                assert whole.netloc == "localhost", target
                assert whole.path.startswith("/a/b/"), (here, target)
                path = whole.path + (f"?{whole.query}" if whole.query else "")
                # Forms that only take a POST.
                is_form = (
                    whole.path.endswith(("/theme", "/sign-out", "/search"))
                    or "/do/" in whole.path
                    and not whole.query
                )
                if path not in seen and not is_form:
                    seen.add(path)
                    todo.append(path)
    assert len(seen) > 30


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_a_user_wrote_is_shown_as_text(
    app: TaskFlow, harness: Harness, web: httpx.AsyncClient, text: str
) -> None:
    shown = printable(text)
    run = (await harness.send("evil", {"text": text})).id
    await app.asend(f"evil/{text}", {text: text})
    await harness.settled()
    uid = run.partition("-")[0]
    given = {"run_id": text, "reason": text, "name": text, "data": text}
    pages = [
        await web.get(path)
        for path in (
            "/", "/runs", f"/runs/{run}", "/events", f"/events/{uid}", "/functions", "/workers", "/queues",
        )
    ]  # fmt: skip
    pages.append(await web.get(f"/runs/{run}", params={"step": shown}))
    pages.append(await web.get("/do/events.send", params=given))
    pages.append(await web.get("/runs", params={"function": text}))
    pages.append(await web.get("/search", params={"q": text}, follow_redirects=True))
    assert not [each.url for each in pages[:9] if "\x1b" in each.text or "\u202e" in each.text]
    for answer in pages:
        page = PageReader(answer.text)
        assert page.refused == [], answer.url
        assert set(page.tags) <= ALLOWED_TAGS, answer.url
        assert not [each for each in page.links if each.startswith("javascript:")]
