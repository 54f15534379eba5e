"""What a dead consumer held is given back by whoever knows that it is dead."""
# mypy: disable-error-code="no-untyped-call, func-returns-value"

from __future__ import annotations

import time

import pytest
import redis
from kombu.entity import Exchange, Queue

from taskflow.broker.release import release_messages
from taskflow.redis.blocking import ServerLost
from tests.brokers.kombu_user import NewConnection, Receiver, bodies
from tests.servers import RespServer, free_port


def release(streams: RespServer, prefix: str, name: str) -> int:
    url = f"{streams.url}?key_prefix={prefix}"
    return release_messages(url, key_prefix="", consumer_name=name, queues=["gone", "missing"], timeout_s=5)


def test_messages_of_a_dead_consumer_come_to_the_others_at_once(
    streams: RespServer, connect: NewConnection, admin: redis.Redis, prefix: str
) -> None:
    """S9.3: and those of a living one whose name begins alike stay with it."""
    queue = Queue("gone", Exchange("gone"), routing_key="gone")
    dead = Receiver(connect(consumer_name="w:1"), [queue], acks=False, prefetch=3)
    alike = Receiver(connect(consumer_name="w:11"), [queue], acks=False, prefetch=1)
    publish = connect().Producer().publish
    for number in range(3):
        publish(number, exchange="gone", routing_key="gone")
    dead.wait_for(3)
    publish(3, exchange="gone", routing_key="gone")
    alike.wait_for(1)
    other = Receiver(connect(), [queue])
    assert other.drain(0.2) == []
    started_s = time.monotonic()
    assert release(streams, prefix, "w:1") == 3
    other.wait_for(3)
    assert time.monotonic() - started_s < 1
    assert bodies(other.messages) == [0, 1, 2]
    assert all(message.delivery_info["redelivered"] for message in other.messages)
    assert {each["name"][:5] for each in admin.xinfo_consumers(f"{prefix}q:gone", "q")} & {
        "w:1-",
        "w:11-",
    } == {"w:11-"}
    assert release(streams, prefix, "w:1") == 0
    other.drain(0.1)
    assert admin.xlen(f"{prefix}q:gone") == 1, "the one that the living consumer holds"


def test_a_server_that_is_away_is_told() -> None:
    with pytest.raises(ServerLost, match="can't connect"):
        release_messages(
            f"redis://127.0.0.1:{free_port()}/0",
            key_prefix="tf:",
            consumer_name="w:1",
            queues=["q"],
            timeout_s=1,
        )


def test_other_brokers_do_it_themselves() -> None:
    assert (
        release_messages(
            "amqp://127.0.0.1:1//", key_prefix="tf:", consumer_name="w:1", queues=["q"], timeout_s=1
        )
        == 0
    )
