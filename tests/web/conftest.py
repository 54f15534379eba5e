"""An app with a worker, and its site, which is called without a network."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import httpx
import pytest

from taskflow import TaskFlow
from taskflow.connections import Connections
from taskflow.testing import Harness
from taskflow.values.clock import VirtualClock
from taskflow.web.site import SiteOptions, make_site
from tests.commands.shell import Shell
from tests.web.shop import declare

BASE = "http://localhost:8288"


@pytest.fixture
def shell(valkey_url: str, namespace: str) -> Shell:
    """A user's shell in which TASKFLOW_* names this test's servers."""
    return Shell(
        {"TASKFLOW_STORE": valkey_url, "TASKFLOW_BROKER": valkey_url, "TASKFLOW_NAMESPACE": namespace}
    )


@pytest.fixture
def shop(app: TaskFlow) -> TaskFlow:
    """The app, with functions of each kind."""
    declare(app)
    return app


@pytest.fixture
async def harness(shop: TaskFlow) -> AsyncIterator[Harness]:
    """A worker that executes the functions of the app."""
    # By the real clock: the web goes by it.
    async with Harness(shop, clock=VirtualClock(time.time_ns() // 1_000_000)) as harness:
        yield harness


@pytest.fixture
async def link(app: TaskFlow) -> AsyncIterator[Connections]:
    """The connections of the web process."""
    link = Connections(app.config)
    yield link
    await link.aclose()


@pytest.fixture
async def web(link: Connections) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a site that is open to this machine."""
    site = make_site(link, SiteOptions(is_dev=True, version="1.2.3"))
    transport = httpx.ASGITransport(site)
    async with httpx.AsyncClient(transport=transport, base_url=BASE, timeout=10) as client:
        yield client
