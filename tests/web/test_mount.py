"""The site inside another app, under any prefix: FastAPI by ASGI, Flask by WSGI. Rule S14.2."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import flask
import httpx
import pytest
from fastapi import FastAPI

from taskflow import TaskFlow
from taskflow.errors import ConfigError
from taskflow.testing import Harness
from taskflow.web import asgi, wsgi
from taskflow.web.serve import Prefixed
from taskflow.web.site import SiteOptions, make_site
from tests.web.test_api import read_stream


@pytest.fixture
def closed(app: TaskFlow) -> Iterator[None]:
    yield
    app.close()


async def test_fastapi_serves_it_under_a_prefix(app: TaskFlow, harness: Harness) -> None:
    api = FastAPI()
    api.mount("/a/b", asgi(app, dev=True))
    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as web:
        (uid,) = (await web.post("/a/b/e/test", json={"name": "shop/order", "data": {"sku": "A7"}})).json()[
            "ids"
        ]
        await harness.settled()
        (run,) = (await web.get(f"/a/b/v1/events/{uid}/runs")).json()["data"]
        assert run["output"] == "sent A7"
        found = (await web.get("/a/b/api/v1/runs")).json()["runs"]
        assert [each["run_id"] for each in found] == [run["run_id"]]
        told = (await web.get("/a/b/api/v1/openapi.json")).json()
        assert told["servers"] == [{"url": "/a/b/api/v1"}]
        streamed = [each async for each in read_stream(web, f"/a/b/api/v1/runs/{run['run_id']}/stream")]
        assert [name for name, _ in streamed] == ["end"]
        assert (await web.get("/a/b/nothing")).json()["code"] == "not_found"


async def test_it_asks_for_keys_unless_told_otherwise(app: TaskFlow, harness: Harness) -> None:
    transport = httpx.ASGITransport(asgi(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as web:
        assert (await web.get("/api/v1/runs")).status_code == 401


def test_flask_serves_it_under_a_prefix(app: TaskFlow, closed: None) -> None:
    from werkzeug.middleware.dispatcher import DispatcherMiddleware
    from werkzeug.test import Client

    server = flask.Flask("shop")
    server.wsgi_app = DispatcherMiddleware(server.wsgi_app, {"/a/b": wsgi(app, dev=True)})  # type: ignore[method-assign]
    web = Client(server)
    base = {"base_url": "http://localhost"}
    sent = web.post("/a/b/e/test", json=[{"name": "shop/é"}], **base)
    assert (sent.status_code, sent.get_json()["unheard"]) == (200, ["shop/é"])
    told = web.get("/a/b/api/v1/openapi.json", **base).get_json()
    assert told["servers"] == [{"url": "/a/b/api/v1"}]
    assert web.get("/a/b/api/v1/runs?limit=0", **base).get_json()["code"] == "invalid_field"
    assert web.post("/a/b/e/test", data=b" " * 9_000_000, **base).status_code == 413
    assert web.get("/a/b/api/v1/runs", base_url="http://evil.example").status_code == 403


async def test_wsgi_refuses_a_stream_in_words(app: TaskFlow, harness: Harness) -> None:
    from werkzeug.test import Client

    run_id = (await harness.send("shop/order")).id
    path = f"/api/v1/runs/{run_id}/stream"
    answer = await asyncio.to_thread(
        lambda: Client(wsgi(app, dev=True)).get(path, base_url="http://localhost")
    )
    assert answer.status_code == 404
    assert "?wait=10s" in (answer.get_json() or {})["detail"]
    await asyncio.to_thread(app.close)


@pytest.mark.parametrize("path", ["/a/b/api/v1/openapi.json", "/api/v1/openapi.json"])
async def test_a_proxy_may_take_the_prefix_off_the_path_or_leave_it(
    app: TaskFlow, harness: Harness, path: str
) -> None:
    site = Prefixed(make_site(app._link, SiteOptions(is_dev=True)), "/a/b")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url="http://localhost") as web:
        assert (await web.get(path)).json()["servers"] == [{"url": "/a/b/api/v1"}]


def test_without_the_extra_the_error_names_it(app: TaskFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(ConfigError, match=r"pip install 'taskflow-durable\[web\]'"):
        asgi(app)
