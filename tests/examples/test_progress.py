"""examples/progress.py in a real Chromium, through reloads and a proxy that cuts connections: nothing lost, nothing twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, async_playwright

from taskflow.testing import Harness
from tests.examples.conftest import Load
from tests.proxy import Proxy
from tests.web.browser import FLAGS, chromium
from tests.web.server import served

pytestmark = pytest.mark.browser

WAIT_MS = 20_000


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        yield await browser.new_page()
        await browser.close()


async def seen(page: Page, least: int) -> list[int]:
    """What the page was told, once that is so much."""
    await page.wait_for_function(f"window.seen?.length >= {least}", timeout=WAIT_MS)
    told: list[int] = await page.evaluate("window.seen")
    return told


async def test_the_page_shows_each_step_once_through_reloads_and_cuts(load_example: Load, page: Page) -> None:
    progress = load_example("progress")
    async with Harness(progress.app) as harness, served(progress.api) as url:
        with Proxy(urlsplit(url).port or 0) as proxy:
            await page.goto(f"{proxy.url_of(url)}/?name=customers")
            told = await seen(page, 10)
            assert told == [*range(1, 11)], "the run sleeps after ten parts"
            await harness.advance(seconds=1)
            assert await seen(page, 20) == [*range(1, 21)]
            for tens in (30, 40, 50):
                proxy.cut()
                await harness.advance(seconds=1)
                assert await seen(page, tens) == [*range(1, tens + 1)]
            # The page begins anew, and the run does not: the channel has what went before.
            await page.reload()
            await harness.advance(seconds=1)
            assert await seen(page, 60) == [*range(1, 61)]
            await harness.advance(seconds=10)
            assert await seen(page, 100) == [*range(1, 101)]
            await page.wait_for_function(
                "document.getElementById('status').value === 'completed'", timeout=WAIT_MS
            )
            assert await page.evaluate("document.getElementById('bar').value") == 1


async def test_the_server_that_restarts_is_found_again(load_example: Load, page: Page) -> None:
    """Messages that were published while no web process was there come all the same."""
    progress = load_example("progress")
    async with Harness(progress.app) as harness, served(progress.api) as url:
        with Proxy(urlsplit(url).port or 0) as proxy:
            await page.goto(f"{proxy.url_of(url)}/?name=orders")
            assert await seen(page, 10) == [*range(1, 11)]
            proxy.stall()
            await harness.advance(seconds=10)
            proxy.resume()
            proxy.cut()
            assert await seen(page, 100) == [*range(1, 101)]
