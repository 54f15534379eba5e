"""The consumer on the loop: what differs from the one on a thread."""

from __future__ import annotations

import logging
import time

import pytest
import redis

from taskflow.broker.consumer import ThreadedConsumer
from taskflow.broker.consumers import new_consumer
from taskflow.broker.streams.consumer import GATHER_S, READ_COUNT, StreamConsumer, pause_after
from taskflow.broker.streams.entry import Delivery
from taskflow.broker.topology import Topology
from taskflow.errors import BrokerUnavailable
from tests.brokers.conftest import NewPublisher
from tests.brokers.inbox import wait_until
from tests.brokers.loop_inbox import LoopInbox
from tests.servers import RespServer, ValkeyServer, free_port


def nothing(deliveries: list[Delivery]) -> None:
    """Where no message is expected."""


@pytest.mark.parametrize("url", ["redis://h/0", "valkeys://h/0", "unix:///tmp/x"])
async def test_our_streams_are_consumed_on_the_loop(url: str) -> None:
    consumer = new_consumer(
        url, queues=[Topology().events_queue("a")], on_deliveries=nothing, prefetch=1, name="c"
    )
    assert isinstance(consumer, StreamConsumer)
    await consumer.close(1.0)


@pytest.mark.parametrize("url", ["amqp://h//", "memory://", "redis://a/0;redis://b/0"])
async def test_other_brokers_and_several_addresses_are_consumed_in_a_thread(url: str) -> None:
    consumer = new_consumer(
        url, queues=[Topology().events_queue("a")], on_deliveries=nothing, prefetch=1, name="c"
    )
    assert isinstance(consumer, ThreadedConsumer)
    await consumer.close(1.0)


async def test_not_connected_is_told_with_the_reason_and_without_the_password() -> None:
    port = free_port()
    consumer = StreamConsumer(
        f"redis://:secret@127.0.0.1:{port}/0", queues=[Topology().events_queue("a")], on_deliveries=nothing
    )
    with pytest.raises(BrokerUnavailable, match="refused") as caught:
        await consumer.open(2.0)
    assert "secret" not in str(caught.value)
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert not consumer.connected
    assert consumer.last_poll_ms == 0
    await consumer.close(1.0)


async def test_a_wrong_password_is_the_reason() -> None:
    with ValkeyServer(args=["--requirepass", "right"]) as server:
        url = server.url.replace("redis://", "redis://:wrong@")
        consumer = StreamConsumer(url, queues=[Topology().events_queue("a")], on_deliveries=nothing)
        with pytest.raises(BrokerUnavailable, match="WRONGPASS"):
            await consumer.open(2.0)


def test_a_loss_and_the_recovery_are_logged_once_each(
    app_id: str, new_publisher: NewPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="taskflow")
    with ValkeyServer(aof=True) as server, LoopInbox(server.url, app_id) as inbox:
        server.kill()
        wait_until(lambda: not inbox.consumer.connected, description="the loss noticed")
        time.sleep(0.3)  # several tries
        server.restart()
        wait_until(lambda: inbox.consumer.connected, description="connected again")
        new_publisher(server.url).publish_events([b"after"])
        inbox.wait_for(1)
    texts = [record.getMessage() for record in caplog.records if record.name.startswith("taskflow")]
    assert len([text for text in texts if "lost the connection to the broker" in text]) == 1
    assert len([text for text in texts if "the broker at" in text and "is back" in text]) == 1
    assert len(texts) == 2


def test_an_error_of_the_callback_gives_the_messages_back_and_ends_nothing(
    streams: RespServer, app_id: str, new_publisher: NewPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    with LoopInbox(streams.url, app_id) as inbox:
        got: list[Delivery] = []

        def fail_first(deliveries: list[Delivery]) -> None:
            got.extend(deliveries)
            if len(got) == 1:
                raise RuntimeError("a handler that fails")
            inbox.consumer.real.ack(deliveries)

        inbox.consumer.real.on_deliveries = fail_first
        new_publisher(streams.url).publish_events([b"x"])
        wait_until(lambda: len(got) == 2, description="the message again")
    assert [delivery.redelivered for delivery in got] == [False, True]
    assert "could not be handed over" in caplog.text


@pytest.mark.parametrize(("at_once", "gathers"), [(1, False), (3, True)])
def test_after_several_messages_the_next_read_waits_a_moment_and_after_a_lone_one_it_does_not(
    streams: RespServer, app_id: str, new_publisher: NewPublisher, at_once: int, gathers: bool
) -> None:
    """Under load a read then brings more; a chain of runs, each of which waits for the one before, is not held up."""
    with LoopInbox(streams.url, app_id) as inbox:
        consumer = inbox.consumer.real
        seen: list[tuple[bool, bool]] = []

        def look(deliveries: list[Delivery]) -> None:
            inbox.keep(deliveries, consumer)
            inbox.loop.call_soon(
                lambda: seen.append((consumer.gathering is not None, consumer.under_way is not None))
            )

        consumer.on_deliveries = look
        publisher = new_publisher(streams.url)
        publisher.publish_events([b"x"] * at_once)
        inbox.wait_for(at_once)
        # The first one wakes the consumer, so the read that it was waiting in brings no more than that.
        wait_until(lambda: (gathers, not gathers) in seen, description="the turn after the delivery")
        assert gathers or seen == [(False, True)]
        publisher.publish_events([b"next"])
        inbox.wait_for(at_once + 1)
        stream = consumer.say.stream(Topology().events_queue(app_id).name)
        with redis.Redis.from_url(streams.url) as admin:
            wait_until(lambda: admin.xlen(stream) == 0, description="all acknowledged")


def test_each_pause_is_twice_the_one_before_while_messages_come_together() -> None:
    shortest_s, longest_s = GATHER_S
    pauses = [pause_after(2, 0, 0.0)]
    while pauses[-1] < longest_s:
        pauses.append(pause_after(2, 0, pauses[-1]))
    assert pauses == [shortest_s * 2**n for n in range(len(pauses))]
    assert pause_after(2, 0, longest_s) == longest_s
    assert pause_after(1, 0, longest_s) == 0


def test_a_message_that_comes_while_another_one_is_held_came_together_with_it() -> None:
    assert pause_after(1, 1, 0.0) == GATHER_S[0]
    assert pause_after(0, 1, 0.0) == 0, "a read that brought none waits for the next"
    assert pause_after(READ_COUNT, 0, 0.0) == 0, "there are more to read"


def test_messages_of_a_reply_that_was_lost_are_read_again(
    streams: RespServer, app_id: str, new_publisher: NewPublisher, admin: redis.Redis
) -> None:
    """The server notes them as held by this consumer, which never heard of them."""
    with LoopInbox(streams.url, app_id) as inbox:
        consumer = inbox.consumer.real
        stream = consumer.say.stream(Topology().events_queue(app_id).name)
        inbox.consumer.pause(Topology().events_queue(app_id).name)
        wait_until(lambda: consumer.under_way is None, description="the read ended")
        new_publisher(streams.url).publish_events([b"lost"])
        admin.xreadgroup("q", consumer.name, {stream: ">"})
        assert inbox.deliveries == []
        inbox.consumer.resume(Topology().events_queue(app_id).name)
        admin.client_kill_filter(_id=str(consumer.reads.client_id))
        (delivery,) = inbox.wait_for(1)
        assert (delivery.body, delivery.redelivered) == (b"lost", True)
        wait_until(lambda: admin.xlen(stream) == 0, description="acknowledged")


def test_one_that_leaves_is_forgotten_and_leaves_no_key(
    streams: RespServer, app_id: str, new_publisher: NewPublisher, admin: redis.Redis
) -> None:
    with LoopInbox(streams.url, app_id) as inbox:
        name = inbox.consumer.real.name
        stream = inbox.consumer.real.say.stream(Topology().events_queue(app_id).name)
        new_publisher(streams.url).publish_events([b"x"])
        inbox.wait_for(1)
        assert admin.exists(f"tf:{{b}}:alive:{name}")
    assert not admin.exists(f"tf:{{b}}:alive:{name}")
    assert admin.xinfo_consumers(stream, "q") == []


def test_stopping_is_quick_and_a_second_time_nothing(streams: RespServer, app_id: str) -> None:
    with LoopInbox(streams.url, app_id) as inbox:
        started = time.monotonic()
        inbox.consumer.stop(5)
        assert time.monotonic() - started < 1
        inbox.consumer.stop(5)


def test_a_broker_that_is_away_does_not_hold_up_the_stop(
    app_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    with ValkeyServer(aof=True) as server, LoopInbox(server.url, app_id) as inbox:
        server.kill()
        wait_until(lambda: not inbox.consumer.connected, description="the loss noticed")
        inbox.consumer.stop(0.3)
    assert "could not tell the broker that it leaves" in caplog.text
