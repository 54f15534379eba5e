"""Consumers on Redis Streams: prefetch, acks, and what becomes of messages when consumers die or go."""
# mypy: disable-error-code="no-untyped-call, func-returns-value"

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from kombu.entity import Exchange, Queue
from kombu.messaging import Producer

from tests.brokers.inbox import wait_until
from tests.brokers.kombu_user import NewConnection, Receiver, bodies
from tests.servers import RespServer

# -- prefetch, acks


def test_prefetch_is_kept_over_several_queues(connect: NewConnection) -> None:
    connection = connect()
    direct = Exchange("pre", type="direct")
    queues = [Queue(f"pre-{number}", direct, routing_key=f"pre-{number}") for number in range(4)]
    for queue in queues:
        queue(connection.default_channel).declare()
        for number in range(10):
            connection.Producer().publish(number, exchange=direct, routing_key=queue.name)
    receiver = Receiver(connect(), queues, acks=False, prefetch=3)
    assert len(receiver.drain(0.2)) == 3
    while len(receiver.messages) < 40:
        held = [message for message in receiver.messages if not message.acknowledged]
        assert len(held) <= 3
        held[0].ack()
        receiver.drain(0.02)
    assert len(receiver.messages) == 40


def test_an_ack_of_another_thread_makes_room_while_the_consumer_waits(connect: NewConnection) -> None:
    connection = connect()
    queue = Queue("room", Exchange("room"), routing_key="room")
    receiver = Receiver(connection, [queue], acks=False, prefetch=1)
    for number in range(20):
        connection.Producer().publish(number, exchange="room", routing_key="room")
    started = time.monotonic()
    for count in range(1, 21):
        receiver.wait_for(count)
        timer = threading.Timer(0.005, receiver.messages[-1].ack)
        timer.start()
    timer.join()
    assert time.monotonic() - started < 2


def test_consumers_of_one_connection_take_turns(connect: NewConnection) -> None:
    connection = connect()
    queue = Queue("turns", Exchange("turns"), routing_key="turns")
    one, two = Receiver(connection, [queue]), Receiver(connection, [queue])
    for number in range(10):
        connection.Producer().publish(number, exchange="turns", routing_key="turns")
    while len(one.messages) + len(two.messages) < 10:
        connection.drain_events(timeout=2)
    assert len(one.messages) == len(two.messages) == 5
    one.consumer.cancel()
    connection.Producer().publish("rest", exchange="turns", routing_key="turns")
    connection.drain_events(timeout=2)
    assert two.messages[-1].payload == "rest"


def test_without_acks_a_message_is_gone_once_delivered(
    connect: NewConnection, admin: redis.Redis, prefix: str
) -> None:
    connection = connect()
    queue = Queue("noack", Exchange("noack"), routing_key="noack")
    receiver = Receiver(connection, [queue], no_ack=True)
    connection.Producer().publish("x", exchange="noack", routing_key="noack")
    receiver.wait_for(1)
    receiver.drain(0.05)
    assert admin.xlen(f"{prefix}q:noack") == 0


def test_closing_a_channel_gives_back_what_it_held_in_order(connect: NewConnection) -> None:
    connection = connect()
    queue = Queue("back", Exchange("back"), routing_key="back")
    receiver = Receiver(connection, [queue], acks=False)
    for number in range(10):
        connection.Producer().publish(number, exchange="back", routing_key="back")
    receiver.wait_for(10)
    receiver.messages[3].ack()
    receiver.channel.close()
    again = Receiver(connect(), [queue]).wait_for(9)
    assert bodies(again) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert all(message.delivery_info["redelivered"] for message in again)


def test_an_error_in_a_callback_loses_no_message_of_its_batch(connect: NewConnection) -> None:
    connection = connect()
    queue = Queue("errors", Exchange("errors"), routing_key="errors")
    receiver = Receiver(connection, [queue])
    for number in range(5):
        connection.Producer().publish(number, exchange="errors", routing_key="errors")
    take = receiver.take

    def fail(message: Any) -> None:
        take(message)
        raise RuntimeError("in a handler")

    receiver.consumer.on_message = fail
    with pytest.raises(RuntimeError, match="in a handler"):
        connection.drain_events(timeout=5)
    receiver.consumer.on_message = take
    receiver.wait_for(5)
    assert bodies(receiver.messages) == [0, 1, 2, 3, 4]


# -- consumers that die

HOLD = """
import sys, time
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from taskflow.broker.urls import broker_url, register_transport
register_transport()
options = {"key_prefix": sys.argv[2], "claim_idle_ms": int(sys.argv[3])}
connection = Connection(broker_url(sys.argv[1]), transport_options=options)
queue = Queue("held", Exchange("held"), routing_key="held")
messages = []
consumer = connection.Consumer([queue], on_message=messages.append)
consumer.consume()
while len(messages) < 10:
    connection.drain_events(timeout=20)
print("holds", flush=True)
time.sleep(600)   # a handler that never returns: the thread that reads does nothing any more
"""


@pytest.fixture
def holder(streams: RespServer, connect: NewConnection, prefix: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds ten messages in a handler that never returns; silent for 1 s, it counts as dead."""
    connection = connect()
    queue = Queue("held", Exchange("held"), routing_key="held")(connection.default_channel)
    queue.declare()
    for number in range(10):
        connection.Producer().publish(number, exchange="held", routing_key="held")
    arguments = [sys.executable, "-c", HOLD, streams.url, prefix, "1000"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        yield process
        process.kill()


def test_a_slow_consumer_is_not_robbed(
    holder: subprocess.Popen[str], connect: NewConnection, admin: redis.Redis, prefix: str
) -> None:
    queue = Queue("held", Exchange("held"), routing_key="held")
    receiver = Receiver(connect(claim_idle_ms=1000), [queue])
    assert receiver.drain(3.5) == []
    assert admin.xpending(f"{prefix}q:held", "q")["pending"] == 10


def test_an_idle_consumer_takes_over_from_a_dead_one_and_removes_it(
    holder: subprocess.Popen[str], connect: NewConnection, admin: redis.Redis, prefix: str
) -> None:
    queue = Queue("held", Exchange("held"), routing_key="held")
    receiver = Receiver(connect(claim_idle_ms=1000), [queue])
    holder.kill()
    started = time.monotonic()
    receiver.wait_for(10)
    assert time.monotonic() - started < 4
    assert sorted(bodies(receiver.messages)) == list(range(10))
    assert all(message.delivery_info["redelivered"] for message in receiver.messages)
    receiver.drain(2.5)
    assert len(receiver.messages) == 10
    assert len(admin.xinfo_consumers(f"{prefix}q:held", "q")) == 1
    assert admin.xlen(f"{prefix}q:held") == 0


def test_a_takeover_keeps_to_prefetch(holder: subprocess.Popen[str], connect: NewConnection) -> None:
    queue = Queue("held", Exchange("held"), routing_key="held")
    receiver = Receiver(connect(claim_idle_ms=1000), [queue], acks=False, prefetch=4)
    holder.kill()
    receiver.wait_for(4)
    receiver.drain(1.5)
    assert len(receiver.messages) == 4
    for message in receiver.messages:
        message.ack()
    receiver.wait_for(8)


def test_a_stopped_consumer_that_comes_back_may_still_settle(
    holder: subprocess.Popen[str], connect: NewConnection, admin: redis.Redis, prefix: str
) -> None:
    """Its messages were taken over meanwhile; what it requeues then must not come twice."""
    connection = connect(claim_idle_ms=1000)
    queue = Queue("held", Exchange("held"), routing_key="held")
    first = Receiver(connection, [queue], acks=False)
    holder.kill()
    first.wait_for(10)
    stream = f"{prefix}q:held"
    thief = "another-consumer"
    admin.xclaim(stream, "q", thief, 0, [first.messages[0].channel.unacked.entries[1].entry_id.decode()])
    first.channel.basic_recover(requeue=True)
    assert admin.xlen(stream) == 10
    assert admin.xpending_range(stream, "q", "-", "+", 10, thief)[0]["consumer"] == thief


def test_a_connection_that_breaks_succeeds_itself_at_once(
    connect: NewConnection, admin: redis.Redis, prefix: str
) -> None:
    connection = connect()
    queue = Queue("own", Exchange("own"), routing_key="own")
    receiver = Receiver(connection, [queue], acks=False)
    connection.Producer().publish("x", exchange="own", routing_key="own")
    receiver.wait_for(1)
    lost = receiver.messages[0]
    connection.transport.broker.reader._reads._socket.close()
    with pytest.raises(OSError, match=r".*"):
        connection.drain_events(timeout=1)
    connection.collect()
    started = time.monotonic()
    again = Receiver(connection, [queue])
    again.wait_for(1)
    assert time.monotonic() - started < 1
    assert again.messages[0].delivery_info["redelivered"]
    with pytest.raises(connection.connection_errors):
        lost.ack()


def test_consumers_that_leave_are_forgotten(connect: NewConnection, admin: redis.Redis, prefix: str) -> None:
    queue = Queue("leave", Exchange("leave"), routing_key="leave")
    for _ in range(3):
        connection = connect()
        Receiver(connection, [queue]).drain(0.05)
        assert len(admin.xinfo_consumers(f"{prefix}q:leave", "q")) == 1
        assert len(admin.keys(f"{prefix}alive:*")) == 1
        connection.release()
        assert admin.xinfo_consumers(f"{prefix}q:leave", "q") == []
        assert admin.keys(f"{prefix}alive:*") == []


def test_a_pulse_thread_ends_with_its_connection(connect: NewConnection) -> None:
    def pulses() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "taskflow-broker-pulse"}

    before = pulses()  # perhaps of a test that has just ended
    connection = connect()
    Receiver(connection, [Queue("pulse", Exchange("pulse"), routing_key="pulse")])
    (ours,) = pulses() - before
    connection.release()
    wait_until(lambda: not ours.is_alive(), description="the thread gone")


# -- queues that go


def test_an_auto_delete_queue_goes_with_its_last_consumer(
    connect: NewConnection, admin: redis.Redis, prefix: str
) -> None:
    queue = Queue("fleeting", Exchange("fleeting", type="fanout"), auto_delete=True)
    one, two = Receiver(connect(), [queue]), Receiver(connect(), [queue])
    one.drain(0.02)
    two.drain(0.02)
    one.consumer.cancel()
    assert admin.exists(f"{prefix}q:fleeting")
    two.consumer.cancel()
    assert not admin.exists(f"{prefix}q:fleeting")
    assert admin.smembers(f"{prefix}bindings") == set()


def test_an_unused_queue_expires_and_gathers_no_messages(
    connect: NewConnection, admin: redis.Redis, prefix: str
) -> None:
    """As Celery's reply queues do; their senders outlive them."""
    fanout = Exchange("expiring", type="fanout")
    used, unused = Queue("used", fanout, expires=0.6), Queue("unused", fanout, expires=0.6)
    sender = connect()
    unused(sender.default_channel).declare()
    receiver = Receiver(connect(), [used])
    wait_until(lambda: not admin.exists(f"{prefix}q:unused"), description="the unused queue gone")
    threading.Event().wait(0.8)
    producer = Producer(sender.default_channel, fanout)
    producer.publish("x")
    assert bodies(receiver.wait_for(1)) == ["x"]
    assert not admin.exists(f"{prefix}q:unused")
    assert admin.hkeys(f"{prefix}queues") == ["used"]
