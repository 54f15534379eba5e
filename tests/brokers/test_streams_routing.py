"""Redis Streams as any kombu user meets them: exchanges, queues, bindings, batches."""
# mypy: disable-error-code="no-untyped-call, func-returns-value"

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest
import redis
from kombu.entity import Exchange, Queue
from kombu.exceptions import ChannelError
from kombu.messaging import Producer

from tests.brokers.kombu_user import NewConnection, Receiver, bodies

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
    client = connection.transport.broker.commands
    sent: list[int] = []
    original = client.exchange
    client.exchange = lambda packed, count: (sent.append(count), original(packed, count))[1]
    with producer.batch():
        for number in range(200):
            producer.publish(number)
        assert sent == []
    assert sent == [201], "with the question whether the bindings have changed"
    with pytest.raises(RuntimeError, match="on purpose"), producer.batch():
        producer.publish("never sent")
        raise RuntimeError("on purpose")
    client.exchange = original
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
    broker = connection.transport.broker
    before = broker.commands.call("INFO", "commandstats")
    for _ in range(50):
        producer.publish("x")
    after = broker.commands.call("INFO", "commandstats")
    assert calls(after, b"smembers") == calls(before, b"smembers")
    assert calls(after, b"xadd") - calls(before, b"xadd") >= 50


def calls(stats: bytes, command: bytes) -> int:
    for line in stats.splitlines():
        if line.startswith(b"cmdstat_" + command + b":"):
            return int(line.split(b"calls=")[1].split(b",")[0])
    return 0
