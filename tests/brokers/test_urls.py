"""Broker URLs and the names of exchanges and queues."""

from __future__ import annotations

import pytest

from taskflow.broker.connection import new_connection
from taskflow.broker.kombu_session import kombu_queue
from taskflow.broker.topology import Topology
from taskflow.broker.urls import broker_url
from taskflow.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("redis://localhost:6379/0", "taskflow+redis://localhost:6379/0"),
        ("valkey://:secret@cache:6380/2", "taskflow+redis://:secret@cache:6380/2"),
        ("rediss://cache?ssl_ca_certs=/ca.pem", "taskflow+rediss://cache?ssl_ca_certs=/ca.pem"),
        ("valkeys://cache", "taskflow+rediss://cache"),
        ("unix:///run/valkey.sock?db=1", "taskflow+unix:///run/valkey.sock?db=1"),
        ("redis+sentinel://a,b:26380/m/0", "taskflow+redis+sentinel://a,b:26380/m/0"),
        ("valkeys+cluster://a,b", "taskflow+valkeys+cluster://a,b"),
        ("redis://one;redis://two", "taskflow+redis://one;taskflow+redis://two"),
        ("amqp://guest:guest@localhost//", "amqp://guest:guest@localhost//"),
        ("taskflow+redis://localhost", "taskflow+redis://localhost"),
        ("sqs://", "sqs://"),
        ("memory://", "memory://"),
    ],
)
def test_redis_and_valkey_urls_go_to_our_transport(given: str, used: str) -> None:
    assert broker_url(given) == used


@pytest.mark.parametrize("url", ["nonsense://host", "kafka://host", "os.path://x"])
def test_a_url_that_nothing_serves_is_a_config_error_that_says_what_to_use(url: str) -> None:
    with pytest.raises(ConfigError, match="redis://"):
        new_connection(url)


def test_topology_is_durable_and_named_by_app_and_queue() -> None:
    topology = Topology()
    events, work = topology.events_queue("shop"), topology.work_queue("shop", "slow")
    assert (topology.events_exchange, events.kind) == ("taskflow.events", "fanout")
    assert (topology.work_exchange, work.kind) == ("taskflow.work", "direct")
    assert events.name == "taskflow.events.shop"
    assert work.name == work.routing_key == "taskflow.work.shop.slow"
    for bound in (events, work):
        queue = kombu_queue(bound)
        assert queue.durable
        assert queue.exchange.durable


def test_each_namespace_has_exchanges_and_queues_of_its_own() -> None:
    one, other = Topology("staging"), Topology()
    assert one.events_exchange == "taskflow-staging.events"
    names = {queue.name for queue in one.queues("shop", ["a", "b"])}
    assert names.isdisjoint(queue.name for queue in other.queues("shop", ["a", "b"]))
