"""The transport over Redis Streams as any kombu user meets it."""
# mypy: disable-error-code="no-untyped-call, func-returns-value"

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.exceptions import ChannelError
from kombu.messaging import Consumer, Producer

from taskflow.broker.urls import broker_url, register_transport
from tests.brokers.inbox import wait_until
from tests.servers import RedisServer, RespServer, ValkeyServer, free_port

NewConnection = Callable[..., Connection]


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


class Receiver:
    """A kombu consumer that keeps the messages."""

    def __init__(
        self,
        connection: Connection,
        queues: list[Queue],
        *,
        acks: bool = True,
        no_ack: bool = False,
        prefetch: int = 0,
    ) -> None:
        self.connection = connection
        self.messages: list[Any] = []
        self.acks = acks and not no_ack
        self.channel = connection.channel()
        self.consumer = Consumer(
            self.channel, queues, on_message=self.take, no_ack=no_ack, prefetch_count=prefetch
        )
        self.consumer.consume()

    def take(self, message: Any) -> None:
        self.messages.append(message)
        if self.acks:
            message.ack()

    def drain(self, seconds: float) -> list[Any]:
        """Receive until nothing comes for so long."""
        try:
            while True:
                self.connection.drain_events(timeout=seconds)
        except TimeoutError:
            return self.messages

    def wait_for(self, count: int, timeout_s: float = 10) -> list[Any]:
        deadline = time.monotonic() + timeout_s
        while len(self.messages) < count:
            assert time.monotonic() < deadline, f"{len(self.messages)} of {count} messages"
            try:
                self.connection.drain_events(timeout=1)
            except TimeoutError:
                continue
        return self.messages


def bodies(messages: list[Any]) -> list[Any]:
    return [message.payload for message in messages]


# -- what every kombu user does


def test_a_simple_queue_works(connect: NewConnection) -> None:
    with connect().SimpleQueue("simple") as queue:
        queue.put({"number": 1}, headers={"trace": "t1"}, correlation_id="c1")
        queue.put("second")
        message = queue.get(timeout=5)
        assert message.payload == {"number": 1}
        assert message.headers == {"trace": "t1"}
        assert message.properties["correlation_id"] == "c1"
        assert message.delivery_info == {
            "exchange": "simple",
            "routing_key": "simple",
            "redelivered": False,
        }
        message.ack()
        second = queue.get(timeout=5)
        second.requeue()
        again = queue.get(timeout=5)
        assert again.payload == "second"
        assert again.delivery_info["redelivered"]
        again.reject()
        with pytest.raises(queue.Empty):
            queue.get(timeout=0.1)
        with pytest.raises(queue.Empty):
            queue.get_nowait()


def test_tasks_are_routed_by_topic_as_celery_does(connect: NewConnection) -> None:
    topic = Exchange("tasks", type="topic")
    queues = {
        "images": Queue("images", topic, routing_key="media.image.*"),
        "media": Queue("media", topic, routing_key="media.#"),
        "all": Queue("all", topic, routing_key="#"),
        "ends": Queue("ends", topic, routing_key="#.done"),
        "exact": Queue("exact", topic, routing_key="media.image.resize"),
    }
    connection = connect()
    producer = connection.Producer()
    for queue in queues.values():
        queue(connection.default_channel).declare()
    for key in ("media.image.resize", "media", "media.video.cut.done", "mediax", "done", "a+b"):
        producer.publish(key, exchange=topic, routing_key=key, serializer="json")
    received = {name: bodies(Receiver(connect(), [queue]).drain(0.1)) for name, queue in queues.items()}
    assert received == {
        "images": ["media.image.resize"],
        "media": ["media.image.resize", "media", "media.video.cut.done"],
        "all": ["media.image.resize", "media", "media.video.cut.done", "mediax", "done", "a+b"],
        "ends": ["media.video.cut.done", "done"],
        "exact": ["media.image.resize"],
    }


def test_direct_and_default_exchanges_route_by_name(connect: NewConnection) -> None:
    direct = Exchange("direct", type="direct")
    one, two = Queue("one", direct, routing_key="k"), Queue("two", direct, routing_key="other")
    connection = connect()
    for queue in (one, two):
        queue(connection.default_channel).declare()
    producer = connection.Producer()
    producer.publish("by key", exchange=direct, routing_key="k")
    producer.publish("by queue", exchange="", routing_key="two")
    producer.publish("to nobody", exchange=direct, routing_key="unbound")
    producer.publish("to no queue", exchange="", routing_key="no-such-queue")
    assert bodies(Receiver(connect(), [one]).drain(0.1)) == ["by key"]
    assert bodies(Receiver(connect(), [two]).drain(0.1)) == ["by queue"]


def test_queue_size_purge_and_delete(connect: NewConnection, admin: redis.Redis, prefix: str) -> None:
    connection = connect()
    queue = Queue("sized", Exchange("sized"), routing_key="sized")(connection.default_channel)
    queue.declare()
    producer = connection.Producer()
    for number in range(5):
        producer.publish(number, exchange="sized", routing_key="sized")
    held = queue.get()
    assert queue.queue_declare(passive=True).message_count == 4
    assert queue.purge() == 4
    assert queue.get() is None
    held.requeue()
    assert queue.get(no_ack=True).payload == 0
    assert queue.get() is None
    queue.delete()
    with pytest.raises(ChannelError, match="no queue 'sized'"):
        queue.queue_declare(passive=True)
    producer.publish("nowhere", exchange="sized", routing_key="sized")
    assert not admin.exists(f"{prefix}q:sized")


def test_a_queue_that_others_use_or_that_holds_messages_is_not_deleted_if_asked_not_to(
    connect: NewConnection,
) -> None:
    connection = connect()
    queue = Queue("kept", Exchange("kept"), routing_key="kept")(connection.default_channel)
    queue.declare()
    connection.Producer().publish("x", exchange="kept", routing_key="kept")
    with pytest.raises(ChannelError, match="holds 1"):
        queue.delete(if_empty=True)
    Receiver(connection, [queue])
    with pytest.raises(ChannelError, match="in use"):
        queue.delete(if_unused=True)


def test_what_is_not_declared_is_an_error_that_says_so(connect: NewConnection) -> None:
    channel = connect().channel()
    with pytest.raises(ChannelError, match="no exchange 'missing': declare it first"):
        channel.basic_publish(channel.prepare_message("x"), exchange="missing", routing_key="k")
    with pytest.raises(ChannelError, match="no exchange 'missing'"):
        channel.queue_bind("q", "missing", "k")
    with pytest.raises(ChannelError, match="no queue 'missing'"):
        channel.basic_consume("missing", no_ack=False, callback=print, consumer_tag="t")
    channel.exchange_declare("typed", "direct")
    with pytest.raises(ChannelError, match="is of type 'direct'"):
        channel.exchange_declare("typed", "fanout")
    with pytest.raises(ChannelError, match="headers"):
        channel.exchange_declare("h", "headers")


def test_unbinding_and_deleting_an_exchange_end_the_routing(connect: NewConnection) -> None:
    connection, other = connect(), connect()
    fanout = Exchange("fan", type="fanout")
    kept, unbound = (Queue(name, fanout)(connection.default_channel) for name in ("kept", "unbound"))
    kept.declare()
    unbound.declare()
    producer = other.Producer(exchange=fanout)
    producer.publish("both")
    unbound.unbind_from(fanout)
    producer.publish("one")
    assert bodies(Receiver(connection, [kept]).drain(0.1)) == ["both", "one"]
    assert unbound.get().payload == "both"
    assert unbound.get() is None
    fanout(connection.default_channel).delete()
    with pytest.raises(ChannelError, match="no exchange 'fan'"):
        other.Producer(auto_declare=False).publish("none", exchange="fan")


def test_what_json_has_no_words_for_survives_in_headers(connect: NewConnection) -> None:
    when, identity = datetime(2026, 11, 5, 12, tzinfo=UTC), uuid.uuid4()
    with connect().SimpleQueue("dates") as queue:
        queue.put("x", headers={"when": when, "id": identity})
        message = queue.get(timeout=5)
        assert message.headers == {"when": when, "id": identity}
        message.ack()


def test_compressed_and_pickled_bodies_pass(connect: NewConnection) -> None:
    with connect().SimpleQueue("packed") as queue:
        queue.put("x" * 10_000, compression="gzip")
        message = queue.get(timeout=5)
        assert message.payload == "x" * 10_000
        message.ack()


def test_an_entry_of_another_program_disturbs_nobody(
    connect: NewConnection, admin: redis.Redis, prefix: str
) -> None:
    connection = connect()
    queue = Queue("strange", Exchange("strange"), routing_key="strange")
    errors: list[Exception] = []
    receiver = Receiver(connection, [queue])
    receiver.consumer.on_decode_error = lambda message, error: (errors.append(error), message.reject())
    admin.xadd(f"{prefix}q:strange", {"m": "no json", "b": "x"})
    admin.xadd(f"{prefix}q:strange", {"hello": "world"})
    connection.Producer().publish("fine", exchange="strange", routing_key="strange")
    receiver.wait_for(2)
    assert receiver.messages[-1].payload == "fine"
    assert len(errors) == 1


# -- batches


def test_a_batch_is_one_round_trip(connect: NewConnection) -> None:
    connection = connect()
    fanout = Exchange("batch", type="fanout")
    queue = Queue("batch", fanout)(connection.default_channel)
    queue.declare()
    producer = Producer(connection.default_channel, fanout)
    producer.publish("warm up")
    assert producer.supports_batch_publish
    client = connection.transport.commands
    sent: list[int] = []
    original = client.send
    client.send = lambda commands: (sent.append(len(commands)), original(commands))
    with producer.batch():
        for number in range(200):
            producer.publish(number)
        assert sent == []
    assert sent == [200]
    with pytest.raises(RuntimeError, match="on purpose"), producer.batch():
        producer.publish("never sent")
        raise RuntimeError("on purpose")
    client.send = original
    assert bodies(Receiver(connect(), [queue]).drain(0.1)) == ["warm up", *range(200)]


# -- bindings


def test_a_queue_bound_by_another_process_gets_the_next_message(connect: NewConnection) -> None:
    sender, fanout = connect(), Exchange("news", type="fanout")
    producer = Producer(sender.default_channel, fanout)
    producer.publish("nobody listens")
    for number in range(20):
        listener = connect()
        queue = Queue(f"listener-{number}", fanout)(listener.default_channel)
        queue.declare()
        producer.publish(number)
        assert queue.get(no_ack=True).payload == number
        assert queue.get() is None


def test_bindings_are_not_read_again_while_nothing_changes(
    connect: NewConnection, admin: redis.Redis
) -> None:
    connection = connect()
    fanout = Exchange("calm", type="fanout")
    Queue("calm", fanout)(connection.default_channel).declare()
    producer = Producer(connection.default_channel, fanout)
    producer.publish("warm up")
    transport = connection.transport
    before = transport.commands.call("INFO", "commandstats")
    for _ in range(50):
        producer.publish("x")
    after = transport.commands.call("INFO", "commandstats")
    assert calls(after, b"smembers") == calls(before, b"smembers")
    assert calls(after, b"evalsha") - calls(before, b"evalsha") >= 50


def calls(stats: bytes, command: bytes) -> int:
    for line in stats.splitlines():
        if line.startswith(b"cmdstat_" + command + b":"):
            return int(line.split(b"calls=")[1].split(b",")[0])
    return 0


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
    connection.transport.reader._reads._socket.close()
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
    def pulses() -> int:
        return sum(thread.name == "taskflow-broker-pulse" for thread in threading.enumerate())

    before = pulses()
    connection = connect()
    Receiver(connection, [Queue("pulse", Exchange("pulse"), routing_key="pulse")])
    assert pulses() == before + 1
    connection.release()
    wait_until(lambda: pulses() == before, description="the thread gone")


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


# -- connections


def test_a_unix_socket_and_a_database_work(streams: RespServer, connect: NewConnection) -> None:
    with connect(streams.unix_url.replace("db=0", "db=5")).SimpleQueue("unix") as queue:
        queue.put("over a file")
        message = queue.get(timeout=5)
        assert message.payload == "over a file"
        message.ack()
    with redis.Redis(unix_socket_path=str(streams.socket_path), db=5) as admin:
        assert admin.dbsize() > 0


def test_user_and_password_work(connect: NewConnection) -> None:
    arguments = ["--user", "default", "off", "--user", "app", "on", ">s:e/c@ret", "~*", "&*", "+@all"]
    with ValkeyServer(args=arguments) as server:
        url = server.url.replace("redis://", "redis://app:s%3Ae%2Fc%40ret@")
        connection = connect(url)
        with connection.SimpleQueue("secured") as queue:
            queue.put("x")
            queue.get(timeout=5).ack()
        assert "s:e" not in connection.as_uri()
        assert "s%3Ae" not in repr(connection)
        connection.release()


def test_tls_works_and_checks_the_certificate(connect: NewConnection, tmp_path: Any) -> None:
    if not RedisServer.is_installed():
        pytest.skip("the embedded Valkey has no TLS; apt-get install redis-server")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        + [
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )
    port = free_port()
    arguments = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    arguments += [
        "--tls-cert-file",
        str(certificate),
        "--tls-key-file",
        str(key),
        "--tls-ca-cert-file",
        str(certificate),
    ]
    with RedisServer(args=arguments):
        connection = connect(f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}")
        with connection.SimpleQueue("tls") as queue:
            for number in range(50):
                queue.put("x" * 20_000 + str(number))
            for _ in range(50):
                queue.get(timeout=5).ack()
        connection.release()
        with pytest.raises(OSError, match="(?i)certificate"):
            connect(f"rediss://localhost:{port}/0").connect()


def test_the_second_url_is_used_when_the_first_is_dead(streams: RespServer, connect: NewConnection) -> None:
    connection = connect(f"redis://127.0.0.1:1/0;{streams.url}")
    connection.ensure_connection(max_retries=3, interval_start=0)
    with connection.SimpleQueue("failover") as queue:
        queue.put("x")
        queue.get(timeout=5).ack()


def test_a_fork_leaves_the_parents_connection_alone(connect: NewConnection) -> None:
    connection = connect()
    queue = Queue("forked", Exchange("forked"), routing_key="forked")
    receiver = Receiver(connection, [queue], acks=False)
    producer = connection.Producer()
    producer.publish("held by the parent", exchange="forked", routing_key="forked")
    receiver.wait_for(1)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for number in range(20):
                connection.Producer().publish(number, exchange="forked", routing_key="forked")
            connection.release()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert status == 0
    receiver.messages[0].ack()
    receiver.wait_for(21)
    assert bodies(receiver.messages[1:]) == list(range(20))
    assert not any(message.delivery_info["redelivered"] for message in receiver.messages)


def test_a_forked_child_that_only_closes_disturbs_nothing(connect: NewConnection) -> None:
    connection = connect()
    queue = Queue("closing", Exchange("closing"), routing_key="closing")
    receiver = Receiver(connection, [queue], acks=False)
    producer = connection.Producer()
    producer.publish("held", exchange="closing", routing_key="closing")
    receiver.wait_for(1)
    pid = os.fork()
    if pid == 0:
        try:
            receiver.channel.close()
            connection.release()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    receiver.messages[0].ack()
    producer.publish("next", exchange="closing", routing_key="closing")
    receiver.wait_for(2)
    receiver.drain(0.05)
    assert bodies(receiver.messages) == ["held", "next"]


def test_a_server_that_forgot_the_scripts_gets_them_again(connect: NewConnection, admin: redis.Redis) -> None:
    connection = connect()
    queue = Queue("scripts", Exchange("scripts"), routing_key="scripts")
    receiver = Receiver(connection, [queue], acks=False)
    admin.script_flush()
    connection.Producer().publish("x", exchange="scripts", routing_key="scripts")
    receiver.wait_for(1)
    admin.script_flush()
    receiver.messages[0].requeue()
    receiver.wait_for(2)
    admin.script_flush()
    assert queue(connection.default_channel).purge() == 0


def test_a_consumer_whose_prefetch_is_used_up_costs_no_time_of_the_processor(
    connect: NewConnection,
) -> None:
    connection = connect(claim_idle_ms=1000)
    queue = Queue("full", Exchange("full"), routing_key="full")
    receiver = Receiver(connection, [queue], acks=False, prefetch=1)
    connection.Producer().publish("x", exchange="full", routing_key="full")
    receiver.wait_for(1)
    used_s = time.process_time()
    receiver.drain(2.5)
    assert time.process_time() - used_s < 0.1


def test_a_full_server_refuses_and_the_sender_is_told(connect: NewConnection) -> None:
    with ValkeyServer(args=["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]) as server:
        connection = connect(server.url)
        queue = connection.SimpleQueue("full")
        with pytest.raises(connection.channel_errors, match="OOM|maxmemory"):
            for _ in range(100):
                queue.put("x" * 100_000)
        connection.release()
