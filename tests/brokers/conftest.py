"""Brokers to test against: each kind is started when its first test runs, once a pytest-xdist worker."""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from kombu.connection import Connection

from taskflow.broker.publisher import Publisher
from taskflow.broker.topology import Topology
from taskflow.broker.urls import broker_url, register_transport
from tests.brokers.inbox import Inbox
from tests.brokers.kombu_user import NewConnection
from tests.brokers.loop_inbox import LoopInbox
from tests.servers import (
    RABBITMQ_HINT,
    REDIS_HINT,
    RabbitMQServer,
    RedisServer,
    RespServer,
    Server,
    ValkeyServer,
)

VALKEY = pytest.param("valkey", id="valkey")
REDIS = pytest.param("redis", id="redis", marks=pytest.mark.redis)
VALKEY_LOOP = pytest.param("valkey-loop", id="valkey, consumed on a loop")
REDIS_LOOP = pytest.param("redis-loop", id="redis, consumed on a loop", marks=pytest.mark.redis)
RABBITMQ = pytest.param("rabbitmq", id="rabbitmq", marks=[pytest.mark.rabbitmq, pytest.mark.timeout(120)])

NewPublisher = Callable[..., Publisher]
NewInbox = Callable[..., Inbox | LoopInbox]


def new_server(kind: str) -> Server:
    """With its data on disk, so that it can be restarted without losing any."""
    if kind.startswith("valkey"):
        return ValkeyServer(aof=True)
    if kind.startswith("redis"):
        require(RedisServer.is_installed(), REDIS_HINT)
        return RedisServer(aof=True)
    require(RabbitMQServer.is_installed(), RABBITMQ_HINT)
    return RabbitMQServer()


def require(is_installed: bool, hint: str) -> None:
    if is_installed:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(hint)
    pytest.skip(hint)


@pytest.fixture(scope="session", params=[VALKEY, REDIS, RABBITMQ, VALKEY_LOOP, REDIS_LOOP])
def broker(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A broker that many tests share: none stops it or removes what isn't its own."""
    with new_server(request.param) as server:
        yield server


@pytest.fixture(scope="session")
def frail_brokers() -> Iterator[dict[str, Server]]:
    servers: dict[str, Server] = {}
    yield servers
    for server in servers.values():
        server.stop()


@pytest.fixture(params=[VALKEY, REDIS, RABBITMQ, VALKEY_LOOP])
def frail_broker(request: pytest.FixtureRequest, frail_brokers: dict[str, Server]) -> Iterator[Server]:
    """A broker that the test may pause, kill and restart."""
    kind = request.param
    if kind not in frail_brokers:
        server = new_server(kind)
        frail_brokers[kind] = server.start()
    server = frail_brokers[kind]
    yield server
    if server.is_running:
        server.resume()
    else:
        server.restart()


@pytest.fixture(scope="session", params=[VALKEY, REDIS])
def streams(request: pytest.FixtureRequest) -> Iterator[RespServer]:
    """A server of the Redis kind that many tests share."""
    server = new_server(request.param)
    assert isinstance(server, RespServer)
    with server:
        yield server


@pytest.fixture
def new_inbox(request: pytest.FixtureRequest) -> NewInbox:
    """Who consumes: a thread, or a loop for a broker that the test has under the name of one."""
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    kind = params.get("broker") or params.get("frail_broker") or ""
    return LoopInbox if kind.endswith("-loop") else Inbox


@pytest.fixture(params=[Inbox, LoopInbox], ids=["in a thread", "on a loop"])
def stream_inbox(request: pytest.FixtureRequest) -> NewInbox:
    """Both kinds of consumers of our streams, for a test that has a server of its own."""
    kind: NewInbox = request.param
    return kind


@pytest.fixture
def app_id() -> str:
    """An app that no other test has."""
    return f"app-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def new_publisher(app_id: str) -> Iterator[NewPublisher]:
    publishers: list[Publisher] = []

    def create(
        url: str, *, app_id: str = app_id, send_timeout_ms: int = 10_000, topology: Topology | None = None
    ) -> Publisher:
        publisher = Publisher(url, app_id=app_id, send_timeout_ms=send_timeout_ms, topology=topology)
        publishers.append(publisher)
        return publisher

    yield create
    for publisher in publishers:
        publisher.close()


@pytest.fixture
def prefix() -> str:
    """Keys of this test alone."""
    return f"test:{uuid.uuid4().hex[:8]}:"


@pytest.fixture
def connect(streams: RespServer, prefix: str) -> Iterator[NewConnection]:
    connections: list[Connection] = []
    register_transport()

    def new(url: str = "", **options: Any) -> Connection:
        options.setdefault("key_prefix", prefix)
        connection = Connection(broker_url(url or streams.url), transport_options=options)
        connections.append(connection)
        return connection

    yield new
    for connection in connections:
        connection.release()


@pytest.fixture
def admin(streams: RespServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(streams.url, decode_responses=True) as client:
        yield client
