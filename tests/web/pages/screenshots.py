"""Screenshots of the pages, of a deployment to look at: `python -m tests.web.pages.screenshots FOLDER`."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from playwright.async_api import async_playwright

from taskflow import TaskFlow
from taskflow.testing import Harness
from taskflow.values.clock import VirtualClock
from taskflow.web.site import SiteOptions, make_site
from tests.servers import ValkeyServer
from tests.web.browser import FLAGS, chromium
from tests.web.pages.showcase import SHOWN_MS, declare, play
from tests.web.server import served

WIDTHS = {"wide": 1280, "narrow": 360}


async def main(folder: Path) -> None:
    clock = VirtualClock(time.time_ns() // 1_000_000 - SHOWN_MS)
    with ValkeyServer() as server:
        app = TaskFlow("shop", broker=server.url, store=server.url, namespace="showcase")
        declare(app, clock)
        async with Harness(app, clock=clock, servers="app") as harness:
            runs = await play(app, harness)
            async with served(make_site(app._link, SiteOptions(is_dev=True))) as base:
                await shoot(base.replace("127.0.0.1", "localhost"), runs, folder)
        await app.aclose()


async def shoot(base: str, runs: dict[str, str], folder: Path) -> None:
    done, broken, waiting = runs["A-1001"], runs["broken"], runs["A-1002"]
    pages = {
        "overview": "/", "errors": "/errors", "runs": "/runs", "none": "/runs?status=scheduled",
        "run-waiting": f"/runs/{waiting}?step=charge+card", "run": f"/runs/{waiting}?step=reserve+stock",
        "run-failed": f"/runs/{broken}?step=push+to+warehouse", "run-done": f"/runs/{done}", "run-long": f"/runs/{runs['report']}",
        "functions": "/functions", "function": "/functions/shop/fulfil-order", "function-paused": "/functions/shop/send-newsletter",
        "events": "/events", "event": f"/events/{done.partition('-')[0]}", "queues": "/queues", "workers": "/workers",
        "dead-letters": "/dead-letters", "audit": "/audit", "confirm": f"/do/runs.rerun?run_id={done}&from_step=charge+card",
        "send": "/do/events.send", "missing": "/runs/nothing", "sign-in": "/sign-in",
    }  # fmt: skip
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        for theme in ("light", "dark"):
            for name, width in WIDTHS.items():
                context = await browser.new_context(
                    color_scheme=theme, viewport={"width": width, "height": 800}
                )
                page = await context.new_page()
                for each, path in pages.items():
                    await page.goto(base + path)
                    await page.screenshot(path=folder / f"{each}.{theme}.{name}.png", full_page=True)
                await context.close()
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
