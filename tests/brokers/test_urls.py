"""Broker URLs and the names of exchanges and queues."""

from __future__ import annotations

import pytest

from taskflow.broker.connection import new_connection
from taskflow.broker.topology import events_exchange, events_queue, work_exchange, work_queue
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
    events, work = events_queue("shop"), work_queue("shop", "slow")
    assert (events_exchange().name, events_exchange().type) == ("taskflow.events", "fanout")
    assert (work_exchange().name, work_exchange().type) == ("taskflow.work", "direct")
    assert events.name == "taskflow.events.shop"
    assert work.name == work.routing_key == "taskflow.work.shop.slow"
    assert all(each.durable for each in (events, work, events.exchange, work.exchange))
