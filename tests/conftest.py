"""One Valkey for each pytest process; each test gets a database, a namespace and an app id of its own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Protocol

import pytest
import redis

from taskflow.app import TaskFlow
from taskflow.codecs.codecs import AnyCodec
from taskflow.config import Determinism
from taskflow.middleware.base import Middleware
from taskflow.retries import Retries
from taskflow.types import Duration
from tests.left_out import pytest_collection_modifyitems, pytest_terminal_summary  # noqa: F401  (hooks)
from tests.servers import ValkeyServer

DATABASES = 64
NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """A server that all tests of this process share: don't stop, pause or flush it."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def valkey_url(valkey_server: ValkeyServer) -> Iterator[str]:
    """The URL of an empty database: the exchanges of the broker, which every app shares, are this test's own."""
    url = valkey_server.url.replace("/0", f"/{next(NUMBERS) % DATABASES}")
    yield url
    with redis.Redis.from_url(url) as client:
        client.flushdb()


@pytest.fixture(autouse=True, scope="session")
def harnesses_use_the_servers_of_their_apps() -> Iterator[None]:
    """Not the embedded Valkey that users get: our tests look into the servers themselves."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TASKFLOW_TEST_SERVERS", "app")
        yield


class MakeApp(Protocol):
    def __call__(
        self,
        app_id: str | None = None,
        *,
        namespace: str | None = None,
        retention: Duration | None = None,
        max_event_bytes: int | None = None,
        max_steps: int | None = None,
        max_step_output_bytes: int | None = None,
        max_run_bytes: int | None = None,
        determinism: Determinism | None = None,
        retries: int | Retries | None = None,
        middleware: Sequence[Middleware] = (),
        codecs: Sequence[AnyCodec] = (),
        blobs: str | None = None,
    ) -> TaskFlow: ...


@pytest.fixture
def namespace() -> str:
    """Of this test's keys and channels: channels know no databases."""
    return f"t{next(NUMBERS)}"


@pytest.fixture
async def make_app(valkey_url: str, namespace: str) -> AsyncIterator[MakeApp]:
    """Makes apps on this test's servers; the first is called "shop" unless told otherwise."""
    apps: list[TaskFlow] = []
    default_namespace = namespace

    def make(
        app_id: str | None = None,
        *,
        namespace: str | None = None,
        retention: Duration | None = None,
        max_event_bytes: int | None = None,
        max_steps: int | None = None,
        max_step_output_bytes: int | None = None,
        max_run_bytes: int | None = None,
        determinism: Determinism | None = None,
        retries: int | Retries | None = None,
        middleware: Sequence[Middleware] = (),
        codecs: Sequence[AnyCodec] = (),
        blobs: str | None = None,
    ) -> TaskFlow:
        app = TaskFlow(
            app_id or ("shop" if not apps else f"shop-{len(apps) + 1}"),
            broker=valkey_url, store=valkey_url, namespace=namespace or default_namespace, retention=retention,
            max_event_bytes=max_event_bytes, max_steps=max_steps, max_step_output_bytes=max_step_output_bytes,
            max_run_bytes=max_run_bytes, determinism=determinism, retries=retries,
            middleware=middleware, codecs=codecs, blobs=blobs,
        )  # fmt: skip
        apps.append(app)
        return app

    yield make
    for app in apps:
        await app.aclose()


@pytest.fixture
def app(make_app: MakeApp) -> TaskFlow:
    """An app called "shop" on this test's servers."""
    return make_app()
