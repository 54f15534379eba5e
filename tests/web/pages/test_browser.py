"""The pages in a real Chromium: what people do there, by mouse and keyboard, live, in both themes, on wide and narrow screens."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect
from starlette.types import ASGIApp

from taskflow import TaskFlow
from taskflow.testing import Harness
from taskflow.values.clock import VirtualClock
from taskflow.web.site import SiteOptions, make_site
from tests.servers import ValkeyServer
from tests.web.browser import AXE, FLAGS, chromium
from tests.web.pages.shown import declare_shown
from tests.web.server import served
from tests.web.shop import declare

# One deployment and one browser for all: each test looks at runs of its own.
pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice")
# The dark theme differs in its colours alone.
RULES_OF_COLOUR = ("color-contrast", "link-in-text-block")
LOOK = """tags => axe.run(document, {runOnly: tags, resultTypes: ['violations']}).then(
    found => found.violations.map(each => `${each.id}: ${each.nodes.map(node => node.html).join(' ')}`))"""
A_WHILE_MS = 10_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def harness() -> AsyncIterator[Harness]:
    with ValkeyServer() as server:
        app = TaskFlow("shop", store=server.url, broker=server.url)
        declare(app)
        declare_shown(app)
        async with Harness(app, clock=VirtualClock(time.time_ns() // 1_000_000), servers="app") as harness:
            yield harness
        await app.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def base(harness: Harness) -> AsyncIterator[str]:
    async with served(site_of(harness)) as url:
        yield url.replace("127.0.0.1", "localhost")


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, base: str) -> AsyncIterator[Page]:
    """A page whose clock the test turns. In the end no script may have failed, been refused, or asked something."""
    page = await browser.new_page(base_url=base)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
    page.set_default_timeout(A_WHILE_MS)
    expect.set_options(timeout=A_WHILE_MS)
    await page.clock.install()
    yield page
    await page.close()
    # Tests bring about two: a server that is away, and an address that does not exist, or is given a wrong value.
    assert [each for each in wrong if not re.search("ERR_CONNECTION_REFUSED|status of 40[04]", each)] == []


def site_of(harness: Harness) -> ASGIApp:
    return make_site(harness.apps[0]._link, SiteOptions(is_dev=True))


async def later(page: Page) -> None:
    """The page after it has asked what changed."""
    async with page.expect_response(lambda answer: "part=main" in answer.url):
        await page.clock.run_for(10_000)


async def test_a_failed_run_is_found_and_goes_on_from_its_step_with_another_outcome(
    harness: Harness, page: Page
) -> None:
    await harness.send("shop/flaky")
    await harness.advance(hours=1)
    await page.goto("/")
    await page.get_by_role("link", name="shop/flaky").first.click()
    await page.get_by_role("link", name="charge").click()
    await expect(page.get_by_text("ValueError: declined").first).to_be_visible()
    await page.get_by_role("link", name="Run again from here").click()
    await page.get_by_label("Use this outcome").fill('{"receipt": ')
    await page.get_by_role("button", name="Run again").click()
    await expect(page.get_by_role("alert")).to_contain_text("output must be JSON")
    await page.get_by_label("Use this outcome").fill('{"receipt": "by hand"}')
    await page.get_by_label("Reason").fill("paid in cash")
    await page.get_by_role("button", name="Run again").click()
    await expect(page.get_by_text("Rerun of")).to_be_visible()
    await harness.settled()
    await page.goto(page.url)
    await expect(page.locator("h1 + .st")).to_have_text("✓ completed")
    await page.goto("/audit")
    await expect(page.get_by_text("paid in cash")).to_be_visible()


async def test_an_event_is_sent_and_its_run_is_watched_and_ended_by_the_signal_for_which_it_waits(
    harness: Harness, page: Page
) -> None:
    await page.goto("/events")
    await page.get_by_role("link", name="Send an event").click()
    await page.get_by_label("Name").fill("shop/order")
    await page.get_by_label("Data").fill('{"waits": true, "sku": "A7"}')
    await page.get_by_role("button", name="Send").click()
    await harness.settled()
    await later(page)
    await page.get_by_role("link", name="shop/fulfil").click()
    await expect(page.get_by_text("taskflow signal approve --app shop")).to_be_visible()
    await page.evaluate("window.sameDocument = true")
    await harness.apps[0].asend_signal("approve")
    await harness.settled()
    await later(page)
    await expect(page.locator("h1 + .st")).to_have_text("✓ completed")
    await expect(page.get_by_text('"sent A7"')).to_be_visible()
    assert await page.evaluate("window.sameDocument")


async def test_new_runs_are_announced_and_do_not_move_the_list(harness: Harness, page: Page) -> None:
    await harness.start(harness.apps[0].functions["shop/post"])
    await page.goto("/runs?function=shop/post")
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(1)
    await harness.start(harness.apps[0].functions["shop/post"])
    await harness.start(harness.apps[0].functions["shop/post"])
    await later(page)
    button = page.get_by_role("button", name="2 new: show them")
    await expect(button).to_be_visible()
    await expect(rows).to_have_count(1)
    await button.click()
    await expect(rows).to_have_count(3)
    await expect(rows.first.get_by_role("link")).to_be_focused()


async def test_a_page_whose_server_is_away_keeps_what_it_has_and_says_so(
    harness: Harness, page: Page
) -> None:
    await harness.send("shop/broken")
    async with served(site_of(harness)) as url:
        await page.goto(f"{url}/runs")
    await page.clock.run_for(6_000)
    await expect(page.locator("#live")).to_have_text("no answer, trying again")
    await expect(page.get_by_role("link", name="shop/broken").first).to_be_visible()


async def test_everything_is_reached_with_the_keyboard(harness: Harness, page: Page) -> None:
    await harness.send("shop/broken")
    await harness.advance(seconds=1)
    run = await harness.send("shop/parcel", {"parcel": {"id": 7}})
    await page.goto("/")
    press = page.keyboard.press
    await press("Tab")
    await expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    await press("g")
    await press("r")
    await page.wait_for_url("**/runs")
    await press("j")
    await expect(page.locator(f'a[href="/runs/{run.id}"]')).to_be_focused()
    await press("j")
    await press("k")
    await press("Enter")
    await page.wait_for_url(f"**/runs/{run.id}")
    await page.get_by_role("link", name="Cancel the run").focus()
    await press("Enter")
    await page.get_by_label("Reason").focus()
    # Keys are off in fields.
    await page.keyboard.type("gr/p")
    await press("Tab")
    await press("Enter")
    await page.wait_for_url(f"**/runs/{run.id}")
    await expect(page.get_by_text("cancelled: gr/p").first).to_be_visible()
    await press("p")
    await expect(page.locator("#live")).to_have_text("paused")
    await press("?")
    await expect(page.get_by_text("next and previous row")).to_be_visible()
    await press("/")
    await page.keyboard.type("shop/broken\n")
    await page.wait_for_url("**/runs?function=shop%2Fbroken")


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 360)])
async def test_pages_have_no_barriers_and_fit_the_screen(
    harness: Harness, page: Page, theme: str, width: int
) -> None:
    await page.emulate_media(color_scheme="dark" if theme == "dark" else "light", reduced_motion="reduce")
    await page.set_viewport_size({"width": width, "height": 800})
    broken = (await harness.send("shop/flaky")).id
    await harness.advance(hours=1)
    run = (await harness.send("shop/parcel", {"parcel": {"id": 8}})).id
    await harness.apps[0].apause("shop/many")
    paths = [
        "/", "/runs", "/runs?status=queued", "/errors", f"/runs/{run}", f"/runs/{broken}?step=charge", "/events",
        f"/events/{run.partition('-')[0]}", "/functions", "/functions/shop/many", "/queues", "/workers", "/dead-letters", "/audit",
        f"/do/runs.rerun?run_id={broken}&from_step=charge", "/sign-in", "/nothing",
    ]  # fmt: skip
    axe, rules = AXE.read_text(), RULES_OF_COLOUR if theme == "dark" else RULES
    for path in paths:
        await page.goto(path)
        # By the debugger, which the page's policy does not bind.
        await page.evaluate(axe)
        assert await page.evaluate(LOOK, list(rules)) == [], path
        assert await page.evaluate("document.documentElement.scrollWidth") == width, path


async def test_what_users_wrote_runs_nothing(harness: Harness, page: Page) -> None:
    text = "</title></pre></textarea><script>alert(1)</script><img src=x onerror=alert(1)><svg onload=alert(1)>'\"`"
    run = (await harness.send("evil", {"text": text})).id
    await harness.apps[0].asend(f"evil/{text}", {text: text})
    await harness.settled()
    paths = [
        "/", "/runs", f"/runs/{run}?step={quote(text)}", "/events", f"/do/events.send?name={quote(text)}&data={quote(text)}",
    ]  # fmt: skip
    for path in paths:
        await page.goto(path)
        assert await page.locator("main script, main img, main svg:not(.bar, .axis)").count() == 0
        shown = await page.locator("main").inner_text() + await page.locator("main").inner_html()
        assert "alert(1)" in shown, path
