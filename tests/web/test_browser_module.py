"""S17.3: the module for browsers, in a real Chromium: the hooks of React, tokens that expire, a worker that dies."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from taskflow import Context, Step, TaskFlow, TopicRef
from taskflow.connections import Connections
from taskflow.realtime.publish import publish_message
from taskflow.realtime.tokens import TopicGrant, make_token
from taskflow.testing import Harness
from taskflow.web.site import SiteOptions, make_site
from tests.processes import TaskflowProcess
from tests.web.browser import FLAGS, NODE_FOLDER, chromium
from tests.web.server import served

pytestmark = [pytest.mark.browser, pytest.mark.node]

KEY = "k" * 32
TTL_MS = 1_000
WAIT_MS = 25_000
LOG: TopicRef[Any] = TopicRef("order:A1", "log")
SCRIPTS = {
    "react.js": NODE_FOLDER / "node_modules" / "react" / "umd" / "react.production.min.js",
    "react-dom.js": NODE_FOLDER / "node_modules" / "react-dom" / "umd" / "react-dom.production.min.js",
}
REACT = """<div id="root"></div><script src="/react.js"></script><script src="/react-dom.js"></script>
<script type="module">
  import { hooks } from "/v1/realtime/realtime.js";
  const { useTopic, useRun } = hooks(React);
  const runId = new URLSearchParams(location.search).get("run");
  function Order({ order }) {
    const { messages, latest, state } = useTopic({ channel: `order:${order}`, since: "1h" }, { limit: 3 });
    const { run, steps } = useRun({ runId });
    const data = messages.map((each) => each.data);
    window.shown = { data, latest: latest?.data, state, status: run?.status, steps: Object.keys(steps) };
    return null;
  }
  const root = ReactDOM.createRoot(document.getElementById("root"));
  window.show = (order) => root.render(React.createElement(Order, { order }));
  window.show("A1");
</script>"""
PLAIN = """<script type="module">
  import { subscribe } from "/v1/realtime/realtime.js";
  window.seen = [], window.states = [], window.tokens = 0;
  const token = () => { window.tokens++; return fetch("/token").then((answer) => answer.text()); };
  window.subscription = subscribe({ token, since: "1h" }, { onState: (state) => window.states.push(state) });
  for await (const message of window.subscription) window.seen.push(message.data);
  window.ended = true;
</script>"""


def pages(link: Connections, options: SiteOptions) -> Starlette:
    """The site, and the pages of this test beside it."""

    async def script(request: Request) -> Response:
        return FileResponse(SCRIPTS[request.url.path[1:]])

    async def react(request: Request) -> Response:
        return HTMLResponse(REACT)

    async def plain(request: Request) -> Response:
        return HTMLResponse(PLAIN)

    async def token(request: Request) -> Response:
        grants, now_ms = [TopicGrant(LOG.channel, LOG.name)], link.clock.now_ms()
        return PlainTextResponse(
            make_token(KEY, grants, namespace=link.config.namespace, ttl_ms=TTL_MS, now_ms=now_ms)
        )

    return Starlette(
        routes=[
            Route("/react", react),
            Route("/plain", plain),
            Route("/token", token),
            *[Route(f"/{name}", script) for name in SCRIPTS],
            Mount("/", make_site(link, options)),
        ]
    )


@pytest.fixture
async def link(app: TaskFlow) -> AsyncIterator[Connections]:
    link = Connections(dataclasses.replace(app.config, signing_key=KEY))
    yield link
    await link.aclose()


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        page = await browser.new_page()
        page.set_default_timeout(WAIT_MS)
        yield page
        await browser.close()


@asynccontextmanager
async def site(link: Connections, page: Page, *, is_dev: bool = False) -> AsyncIterator[str]:
    """The address of the served pages. A server waits for those who are connected, so the page goes first."""
    async with served(pages(link, SiteOptions(is_dev=is_dev))) as url:
        try:
            yield url
        finally:
            await page.close()


async def publish(link: Connections, data: Any, topic: TopicRef[Any] = LOG) -> None:
    await publish_message(link.session(), topic, data, max_bytes=1_000, now_ms=link.clock.now_ms())


async def shows(page: Page, **wanted: Any) -> None:
    """Wait until the component shows all of this."""
    await page.wait_for_function(
        "wanted => Object.entries(wanted).every(([name, value]) =>"
        " JSON.stringify(window.shown?.[name]) === JSON.stringify(value))",
        arg=wanted,
    )


async def test_the_hooks_of_react_follow_a_topic_and_a_run(
    app: TaskFlow, link: Connections, page: Page
) -> None:
    @app.function()
    async def work(ctx: Context[Step], step: Step) -> None:
        await step.run("one", lambda: 1)
        await step.wait_for_signal("go", "go", timeout="1h")

    await publish(link, "before")
    async with Harness(app) as harness, site(link, page, is_dev=True) as url:
        run = await harness.start(work)
        await page.goto(f"{url}/react?run={run.id}")
        await shows(page, data=["before"], state="open", status="waiting", steps=["one", "go"])
        for number in range(4):
            await publish(link, number)
        await shows(page, data=[1, 2, 3], latest=3)
        await app.asend_signal("go", 1)
        await shows(page, status="completed")
        # Another channel: what was shown of the first one goes.
        await publish(link, "of B2", TopicRef("order:B2", "log"))
        await page.evaluate("window.show('B2')")
        await shows(page, data=["of B2"], status="completed")


async def test_a_subscription_outlives_its_token_and_ends_when_it_is_closed(
    link: Connections, page: Page
) -> None:
    async with site(link, page) as url:
        await page.goto(f"{url}/plain")
        sent = 0
        while await page.evaluate("window.tokens ?? 0") < 3:
            await publish(link, sent)
            sent += 1
            await page.wait_for_function(f"window.seen?.length === {sent}")
        assert await page.evaluate("window.seen") == [*range(sent)]
        await page.evaluate("window.subscription.close()")
        await page.wait_for_function("window.ended")
        assert await page.evaluate("window.states.at(-1)") == "closed"


DYING = """
import os, signal
from pathlib import Path
from taskflow import Context, Step, TaskFlow, TopicRef

app = TaskFlow("{app}")
topic = TopicRef("order:A1", "log")

def die_once(number: int) -> None:
    mark = Path("{folder}") / f"died at {{number}}"
    if number in (3, 6) and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)

@app.function
async def work(ctx: Context[Step], step: Step) -> None:
    for number in range(10):
        await step.publish("tell", topic, number)
        await step.run("work", die_once, number)
"""


def died(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("died at *")]


async def test_a_worker_that_dies_tells_nothing_twice(
    app: TaskFlow, link: Connections, page: Page, tmp_path: Path, namespace: str
) -> None:
    (tmp_path / "dying.py").write_text(DYING.format(app=app.id, folder=tmp_path))
    env = {
        "TASKFLOW_STORE": app.config.store, "TASKFLOW_BROKER": app.config.broker, "TASKFLOW_NAMESPACE": namespace,
    }  # fmt: skip
    async with site(link, page) as url:
        await page.goto(f"{url}/plain")
        with TaskflowProcess(
            "worker", "-A", "dying", "--processes", "1", "-B", cwd=tmp_path, env=env
        ) as worker:
            worker.wait_for_line("is ready")
            run = await app.ainvoke(f"{app.id}/work")
            await page.wait_for_function("window.seen?.length >= 10")
            await run.aresult(timeout=20)
        assert await page.evaluate("window.seen") == [*range(10)]
    assert sorted(died(tmp_path)) == ["died at 3", "died at 6"]
    await app.aclose()
