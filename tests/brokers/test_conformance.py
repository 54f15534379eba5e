"""What every broker must do, run against each of them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

import pytest
import redis

from taskflow.broker.topology import Topology
from tests.brokers.conftest import NewInbox, NewPublisher
from tests.brokers.inbox import wait_until
from tests.servers import Server, ValkeyServer

HOLD_AND_WAIT = """
import sys, time
from taskflow.broker.consumer import Consumer
from taskflow.broker.topology import Topology

def hold(deliveries):
    for delivery in deliveries:
        print(delivery.body.decode(), flush=True)

consumer = Consumer(sys.argv[1], queues=[Topology().events_queue(sys.argv[2])], on_deliveries=hold)
consumer.start()
time.sleep(600)
"""


def numbered(count: int, *, start: int = 0) -> list[bytes]:
    return [str(number).encode() for number in range(start, start + count)]


def test_events_arrive_in_the_order_they_were_sent(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    publisher = new_publisher(broker.url)
    with new_inbox(broker.url, app_id) as inbox:
        for body in numbered(50):
            publisher.publish_events([body])
        publisher.publish_events(numbered(200, start=50))
        inbox.wait_for(250)
    assert inbox.bodies == numbered(250)
    assert not any(delivery.redelivered for delivery in inbox.deliveries)


def test_bodies_arrive_byte_for_byte(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    bodies = ['["žluťoučký 🐎"]'.encode(), b"[]", b"\x00\xff\r\n$5\r\n" * 10, b"x" * 300_000]
    with new_inbox(broker.url, app_id) as inbox:
        new_publisher(broker.url).publish_events(bodies)
        inbox.wait_for(4)
    assert inbox.bodies == bodies


def test_events_sent_before_the_first_worker_wait_for_it(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    new_publisher(broker.url).publish_events(numbered(5))
    with new_inbox(broker.url, app_id) as inbox:
        inbox.wait_for(5)
    assert inbox.bodies == numbered(5)


def test_what_was_acked_never_comes_again(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    publisher = new_publisher(broker.url)
    publisher.publish_events(numbered(20))
    with new_inbox(broker.url, app_id) as first:
        first.wait_for(20)
    with new_inbox(broker.url, app_id) as second:
        publisher.publish_events([b"last"])
        second.wait_for(1)
    assert second.bodies == [b"last"]


def test_what_was_not_acked_goes_back_at_once_when_the_consumer_stops(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    new_publisher(broker.url).publish_events(numbered(10))
    with new_inbox(broker.url, app_id, acks=False) as first:
        first.wait_for(10)
        first.consumer.ack(first.deliveries[:4])
    with new_inbox(broker.url, app_id) as second:
        second.wait_for(6, timeout_s=5)
    assert second.bodies == numbered(6, start=4)
    assert all(delivery.redelivered for delivery in second.deliveries)


def test_a_rejected_message_is_dropped_and_a_requeued_one_comes_again(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    publisher = new_publisher(broker.url)
    with new_inbox(broker.url, app_id, acks=False) as inbox:
        publisher.publish_events([b"drop"])
        inbox.wait_for(1)
        inbox.consumer.reject(inbox.deliveries, requeue=False)
        publisher.publish_events([b"again"])
        inbox.wait_for(2)
        inbox.consumer.reject(inbox.deliveries[1:2], requeue=True)
        inbox.wait_for(3)
    assert inbox.bodies == [b"drop", b"again", b"again"]
    assert [delivery.redelivered for delivery in inbox.deliveries] == [False, False, True]


def test_settling_twice_does_no_harm(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    publisher = new_publisher(broker.url)
    with new_inbox(broker.url, app_id, acks=False) as inbox:
        publisher.publish_events([b"a"])
        inbox.wait_for(1)
        inbox.consumer.ack(inbox.deliveries)
        inbox.consumer.ack(inbox.deliveries)
        inbox.consumer.reject(inbox.deliveries, requeue=True)
        publisher.publish_events([b"b"])
        inbox.wait_for(2)
        assert inbox.consumer.connected
    assert inbox.bodies == [b"a", b"b"]


def test_every_app_gets_its_own_copy(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    other = app_id + "-other"
    with new_inbox(broker.url, app_id) as mine, new_inbox(broker.url, other) as theirs:
        new_publisher(broker.url).publish_events(numbered(30))
        mine.wait_for(30)
        theirs.wait_for(30)
    assert mine.bodies == theirs.bodies == numbered(30)


def test_the_workers_of_one_app_share_its_events(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    with new_inbox(broker.url, app_id, prefetch=5) as one, new_inbox(broker.url, app_id, prefetch=5) as two:
        publisher = new_publisher(broker.url)
        publisher.publish_events(numbered(400))
        wait_until(lambda: len(one.deliveries) + len(two.deliveries) >= 400, description="400 deliveries")
    assert sorted(one.bodies + two.bodies) == sorted(numbered(400))
    assert one.deliveries
    assert two.deliveries


def test_an_app_bound_later_gets_what_is_sent_from_then_on(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    publisher = new_publisher(broker.url)
    publisher.publish_events([b"before"])
    with new_inbox(broker.url, app_id + "-late") as late:
        publisher.publish_events([b"after"])
        late.wait_for(1)
    assert late.bodies == [b"after"]


def test_app_ids_names_further_apps_whose_queues_must_exist(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    other = app_id + "-other"
    new_publisher(broker.url).publish_events([b"for both"], app_ids=[other])
    with new_inbox(broker.url, other) as inbox:
        inbox.wait_for(1)
    assert inbox.bodies == [b"for both"]


def test_hints_go_to_the_work_queue_they_name(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    fast, slow = Topology().work_queue(app_id, "fast"), Topology().work_queue(app_id, "slow")
    new_publisher(broker.url, app_id="elsewhere").publish_work(["slow", "fast", "slow"], app_id=app_id)
    with new_inbox(broker.url, queues=[fast, slow]) as inbox:
        inbox.wait_for(3)
    got = sorted((delivery.queue, delivery.body) for delivery in inbox.deliveries)
    assert got == [
        (fast.name, b'{"queue": "fast"}'),
        (slow.name, b'{"queue": "slow"}'),
        (slow.name, b'{"queue": "slow"}'),
    ]


def test_prefetch_bounds_what_a_consumer_holds(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    new_publisher(broker.url).publish_events(numbered(50))
    with new_inbox(broker.url, app_id, acks=False, prefetch=7) as held:
        held.wait_for(7)
        with new_inbox(broker.url, app_id) as rest:
            rest.wait_for(43)
            assert len(held.deliveries) == 7
        held.consumer.ack(held.deliveries)
    assert sorted(held.bodies + rest.bodies) == sorted(numbered(50))


def test_acks_make_room_for_more(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    new_publisher(broker.url).publish_events(numbered(30))
    with new_inbox(broker.url, app_id, acks=False, prefetch=10) as inbox:
        for count in (10, 20, 30):
            inbox.wait_for(count)
            inbox.consumer.ack(inbox.deliveries[count - 10 : count])
    assert inbox.bodies == numbered(30)


def test_a_paused_queue_gives_back_to_others_and_resumes(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    publisher = new_publisher(broker.url)
    name = Topology().events_queue(app_id).name
    with new_inbox(broker.url, app_id, acks=False) as paused:
        publisher.publish_events([b"1"])
        paused.wait_for(1)
        paused.consumer.pause(name)
        paused.consumer.reject(paused.deliveries, requeue=True)
        with new_inbox(broker.url, app_id) as other:
            other.wait_for(1)
            publisher.publish_events([b"2"])
            other.wait_for(2)
        assert paused.bodies == [b"1"]
        paused.consumer.resume(name)
        publisher.publish_events([b"3"])
        paused.wait_for(2)
    assert sorted(other.bodies) == [b"1", b"2"]
    assert paused.bodies == [b"1", b"3"]


def test_pausing_one_queue_leaves_the_other_alone(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    publisher = new_publisher(broker.url)
    events, work = Topology().events_queue(app_id), Topology().work_queue(app_id, "default")
    with new_inbox(broker.url, queues=[events, work]) as inbox:
        inbox.consumer.pause(work.name)
        publisher.publish_events([b"event"])
        inbox.wait_for(1)  # an event that was sent after the pause: by now it is in force
        publisher.publish_work(["default"])
        publisher.publish_events([b"event"])
        inbox.wait_for(2)
        assert [delivery.queue for delivery in inbox.deliveries] == [events.name, events.name]
        inbox.consumer.resume(work.name)
        inbox.wait_for(3)
    assert inbox.deliveries[2].queue == work.name


def test_what_a_killed_consumer_held_is_delivered_again(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    url = broker.url + ("?claim_idle_ms=1500" if broker.url.startswith("redis") else "")
    new_publisher(url).publish_events(numbered(20))
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_AND_WAIT, url, app_id], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        held = [process.stdout.readline().strip() for _ in range(20)]
        process.kill()
    assert held == [body.decode() for body in numbered(20)]
    # It waits in a read for messages that nobody sends: the takeover must come by itself.
    with new_inbox(url, app_id) as inbox:
        inbox.wait_for(20)
    assert sorted(inbox.bodies) == sorted(numbered(20))
    assert all(delivery.redelivered for delivery in inbox.deliveries)


def test_an_ack_reaches_the_broker_in_a_millisecond_while_the_consumer_waits(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    """With prefetch 1, the next message shows that the ack of the one before has arrived."""
    new_publisher(broker.url).publish_events(numbered(100))
    with new_inbox(broker.url, app_id, acks=False, prefetch=1) as inbox:
        started = time.monotonic()
        for count in range(1, 101):
            inbox.wait_for(count)
            inbox.consumer.ack(inbox.deliveries[count - 1 : count])
        took_s = time.monotonic() - started
    # Some 1 ms each, of which the test's own looking is the half; polling every 50 ms would take 5 s.
    assert took_s < 4


@pytest.mark.parametrize("count", [1, 3000])
def test_a_list_of_any_size_arrives_whole(
    broker: Server, app_id: str, new_publisher: NewPublisher, count: int, new_inbox: NewInbox
) -> None:
    with new_inbox(broker.url, app_id) as inbox:
        new_publisher(broker.url, send_timeout_ms=30_000).publish_events(numbered(count))
        inbox.wait_for(count, timeout_s=30)
    assert inbox.bodies == numbered(count)


def test_an_empty_list_is_nothing(new_publisher: NewPublisher) -> None:
    new_publisher("redis://127.0.0.1:1/0").publish_events([])


def test_namespaces_that_share_a_broker_never_meet(
    broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    """Of two deployments of one app each gets its own events and work messages only."""
    topologies = {namespace: Topology(namespace) for namespace in ("tf", "staging")}
    with contextlib.ExitStack() as stack:
        inboxes = {
            namespace: stack.enter_context(
                new_inbox(
                    broker.url, queues=topology.queues(app_id, ["default"]), key_prefix=topology.key_prefix
                )
            )
            for namespace, topology in topologies.items()
        }
        for number in range(20):
            for namespace, topology in topologies.items():
                publisher = new_publisher(broker.url, topology=topology)
                publisher.publish_events([f"{namespace} {number}".encode()])
                publisher.publish_work(["default"])
        for namespace, inbox in inboxes.items():
            inbox.wait_for(40)
            events = [one.body for one in inbox.deliveries if one.queue.endswith(f".events.{app_id}")]
            assert events == [f"{namespace} {number}".encode() for number in range(20)]
        assert [len(inbox.deliveries) for inbox in inboxes.values()] == [40, 40]


def test_all_keys_of_a_namespace_begin_with_its_name(
    app_id: str, new_publisher: NewPublisher, stream_inbox: NewInbox
) -> None:
    """So that a server's access rules can keep deployments apart."""
    topology = Topology("staging")
    with ValkeyServer() as server, redis.Redis.from_url(server.url) as admin:
        new_publisher(server.url, topology=topology).publish_events([b"[]"])
        queues = topology.queues(app_id, ["default"])
        with stream_inbox(server.url, queues=queues, key_prefix=topology.key_prefix, acks=False) as inbox:
            inbox.wait_for(1)
            keys = admin.keys()
        assert len(keys) >= 5
        assert [key for key in keys if not key.startswith(b"staging:")] == []
