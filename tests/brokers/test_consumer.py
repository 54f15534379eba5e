"""The consumer's thread: it outlives losses, errors and silence, and says how it fares."""
# mypy: disable-error-code="no-untyped-call, func-returns-value"

from __future__ import annotations

import logging
import resource
import threading
import time
import zlib
from typing import Any

import pytest
import redis

from taskflow.broker.connection import new_connection
from taskflow.broker.consumer import Consumer
from taskflow.broker.kombu_session import kombu_queue
from taskflow.broker.streams.entry import Delivery
from taskflow.broker.topology import Topology
from taskflow.errors import BrokerUnavailable
from tests.brokers.conftest import NewInbox, NewPublisher
from tests.brokers.inbox import Inbox, wait_until
from tests.servers import RespServer, Server, ValkeyServer, free_port


def test_not_connected_is_told_with_the_reason() -> None:
    port = free_port()
    url = f"redis://:secret@127.0.0.1:{port}/0"
    consumer = Consumer(url, queues=[Topology().events_queue("a")], on_deliveries=lambda deliveries: None)
    consumer.start()
    try:
        with pytest.raises(BrokerUnavailable, match="refused") as caught:
            consumer.wait_ready(0.3)
        assert "secret" not in str(caught.value)
        assert f"127.0.0.1:{port}" in str(caught.value)
        assert not consumer.connected
        assert consumer.last_poll_ms == 0
        assert consumer.is_alive
    finally:
        consumer.stop(5)
    assert not consumer.is_alive


def test_a_wrong_password_is_the_reason() -> None:
    with ValkeyServer(args=["--requirepass", "right"]) as server:
        url = server.url.replace("redis://", "redis://:wrong@")
        consumer = Consumer(url, queues=[Topology().events_queue("a")], on_deliveries=lambda deliveries: None)
        consumer.start()
        try:
            with pytest.raises(BrokerUnavailable, match="WRONGPASS"):
                consumer.wait_ready(0.3)
        finally:
            consumer.stop(5)
        with Inbox(server.url.replace("redis://", "redis://:right@"), "a"):
            pass


def test_loss_and_recovery_are_logged_once_each_however_long_it_takes(
    app_id: str, new_publisher: NewPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="taskflow")
    with ValkeyServer(aof=True) as server, Inbox(server.url, app_id) as inbox:
        server.kill()
        wait_until(lambda: not inbox.consumer.connected, description="the loss noticed")
        wait_until(lambda: inbox.consumer._failures > 3, description="several tries")
        server.restart()
        wait_until(lambda: inbox.consumer.connected, description="connected again")
        new_publisher(server.url).publish_events([b"after"])
        inbox.wait_for(1)
    texts = [record.getMessage() for record in caplog.records if record.name.startswith("taskflow")]
    assert len([text for text in texts if "no connection to the broker" in text]) == 1
    assert len([text for text in texts if "is back after" in text]) == 1
    assert len(texts) == 2


def test_an_error_of_the_callback_gives_the_messages_back_and_ends_nothing(
    streams: RespServer, app_id: str, new_publisher: NewPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[Delivery] = []

    def fail_first(deliveries: list[Delivery]) -> None:
        got.extend(deliveries)
        if len(got) == 1:
            raise SystemExit("a handler that goes too far")
        consumer.ack(deliveries)

    consumer = Consumer(streams.url, queues=[Topology().events_queue(app_id)], on_deliveries=fail_first)
    consumer.start()
    consumer.wait_ready(5)
    new_publisher(streams.url).publish_events([b"x"])
    wait_until(lambda: len(got) == 2, description="the message again")
    consumer.stop(5)
    assert [delivery.redelivered for delivery in got] == [False, True]
    assert "could not be handed over" in caplog.text


def packed_zeros(megabytes: int) -> bytes:
    """Of 200 MB 194 KB are left."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(1_000_000)) for _ in range(megabytes)]
    return b"".join([*parts, packer.flush()])


FOREIGN: dict[str, tuple[bytes, dict[str, Any]]] = {
    "compressed": (packed_zeros(200), {"headers": {"compression": "application/x-gzip"}}),
    "compressed, they say": (b"this is no zlib", {"headers": {"compression": "application/x-gzip"}}),
    "content type": (b"cos\nsystem\n", {"content_type": "application/x-python-serialize"}),
    "content encoding": (b"xn--" * 1000, {"content_encoding": "punycode"}),
}


def test_what_taskflow_never_writes_is_handed_over_as_it_came_with_the_problem(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    """Nothing is unpacked or decoded: 194 KB would become 200 MB."""
    with new_inbox(broker.url, app_id) as inbox:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with new_connection(broker.url) as connection:
            for body, properties in FOREIGN.values():
                usual = {"content_type": "application/json", "content_encoding": "utf-8"}
                connection.Producer().publish(
                    body, exchange=Topology().events_exchange, **(usual | properties)
                )
        new_publisher(broker.url).publish_events([b"fine"])
        inbox.wait_for(5)
        assert inbox.consumer.connected
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "KB"
    assert inbox.bodies == [*[body for body, _ in FOREIGN.values()], b"fine"]
    *refused, fine = inbox.deliveries
    for what, delivery in zip(FOREIGN, refused, strict=True):
        assert what.partition(",")[0] in delivery.problem
    assert fine.problem == ""


def test_losing_all_data_of_the_broker_is_survived(
    app_id: str, new_publisher: NewPublisher, stream_inbox: NewInbox
) -> None:
    """FLUSHALL: streams and groups vanish while the consumer waits in a read."""
    with ValkeyServer() as server:
        check_flushall(server, app_id, new_publisher, stream_inbox)


@pytest.mark.redis
def test_losing_all_data_of_a_redis_is_survived(
    streams: RespServer, app_id: str, new_publisher: NewPublisher, stream_inbox: NewInbox
) -> None:
    with type(streams)() as server:
        check_flushall(server, app_id, new_publisher, stream_inbox)


def check_flushall(
    server: RespServer, app_id: str, new_publisher: NewPublisher, stream_inbox: NewInbox
) -> None:
    publisher = new_publisher(server.url)
    with stream_inbox(server.url, app_id) as inbox, redis.Redis.from_url(server.url) as admin:
        for number in range(3):
            publisher.publish_events([b"before"])
            inbox.wait_for(2 * number + 1)
            admin.flushall()
            publisher.publish_events([b"after"])
            inbox.wait_for(2 * number + 2)
        assert inbox.consumer.connected
    assert inbox.bodies == [b"before", b"after"] * 3


def test_a_queue_that_somebody_deleted_is_consumed_again(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    with new_inbox(broker.url, app_id) as inbox:
        with new_connection(broker.url) as connection:
            kombu_queue(Topology().events_queue(app_id))(connection.default_channel).delete()
        publisher = new_publisher(broker.url)
        wait_until(
            lambda: publisher.publish_events([b"after"]) or inbox.bodies,
            description="a message on the new queue",
        )


def test_messages_flow_on_however_often_the_connection_is_cut(
    streams: RespServer, app_id: str, new_publisher: NewPublisher, stream_inbox: NewInbox
) -> None:
    stop = threading.Event()

    def cut_connections() -> None:
        with redis.Redis.from_url(streams.url) as admin:
            for _ in range(30):
                if stop.wait(0.03):
                    return
                admin.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")

    publisher = new_publisher(streams.url)
    sent: list[bytes] = []
    with stream_inbox(streams.url, app_id) as inbox:
        cutter = threading.Thread(target=cut_connections)
        cutter.start()
        while cutter.is_alive():
            body = str(len(sent)).encode()
            try:
                publisher.publish_events([body])
            except BrokerUnavailable:
                continue
            sent.append(body)
        wait_until(lambda: set(inbox.bodies) >= set(sent), description="every message that was accepted")
        stop.set()
        cutter.join()
    assert len(sent) > 30


def test_a_silent_server_is_noticed(app_id: str, new_publisher: NewPublisher, stream_inbox: NewInbox) -> None:
    """A stopped server keeps its connections open: only the missing answer tells."""
    with ValkeyServer(aof=True) as server, stream_inbox(server.url, app_id) as inbox:
        before_ms = inbox.consumer.last_poll_ms
        server.pause()
        wait_until(lambda: not inbox.consumer.connected, description="the silence noticed", timeout_s=20)
        assert inbox.consumer.last_poll_ms >= before_ms
        server.resume()
        wait_until(lambda: inbox.consumer.connected, description="connected again")
        new_publisher(server.url).publish_events([b"x"])
        inbox.wait_for(1)


def test_an_idle_consumer_costs_no_time_of_the_processor(
    broker: Server, app_id: str, new_inbox: NewInbox
) -> None:
    with new_inbox(broker.url, app_id):
        used_s = time.process_time()
        threading.Event().wait(2.2)
        assert time.process_time() - used_s < 0.1


def test_progress_is_shown_while_idle(streams: RespServer, app_id: str, stream_inbox: NewInbox) -> None:
    with stream_inbox(streams.url, app_id) as inbox:
        first_ms = inbox.consumer.last_poll_ms
        wait_until(lambda: inbox.consumer.last_poll_ms > first_ms, description="progress", timeout_s=10)


def test_stopping_is_quick_and_a_second_time_nothing(broker: Server, app_id: str) -> None:
    inbox = Inbox(broker.url, app_id)
    with inbox:
        started = time.monotonic()
        inbox.consumer.stop(5)
        assert time.monotonic() - started < 1
    assert not inbox.consumer.is_alive
