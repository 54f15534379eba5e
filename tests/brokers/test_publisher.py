"""The publishers: deadlines, recovery, threads, forks, loops."""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from taskflow.broker.connection import new_connection
from taskflow.broker.deadline import Deadline
from taskflow.broker.kombu_session import KombuSession, kombu_queue
from taskflow.broker.publisher import AsyncPublisher, Publisher
from taskflow.broker.topology import Topology
from taskflow.errors import BrokerUnavailable
from tests.brokers.conftest import NewPublisher
from tests.brokers.inbox import Inbox, wait_until
from tests.servers import RespServer, Server, ValkeyServer, free_port

SLACK_S = 1.0  # the machine may be busy with other tests


@pytest.fixture
def mute_port() -> Iterator[int]:
    """Accepts connections by its backlog, and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield int(listener.getsockname()[1])


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_closed_port_is_told_at_once_with_what_to_do(scheme: str, new_publisher: NewPublisher) -> None:
    port = free_port()
    publisher = new_publisher(f"{scheme}://user:secret@127.0.0.1:{port}/", send_timeout_ms=2000)
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable) as caught:
        publisher.publish_events([b"[]"])
    assert time.monotonic() - started < 1
    text = str(caught.value)
    assert f"{scheme}://user:***@127.0.0.1:{port}/" in text
    assert "refused" in text
    assert "Check that it runs" in text
    assert "secret" not in text
    # The reason stands in the text: sixty lines of kombu's frames would stand above it.
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_server_that_says_nothing_costs_the_deadline_and_no_more(
    scheme: str, mute_port: int, new_publisher: NewPublisher
) -> None:
    publisher = new_publisher(f"{scheme}://127.0.0.1:{mute_port}/", send_timeout_ms=500)
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="500 ms"):
        publisher.publish_events([b"[]"])
    assert 0.4 < time.monotonic() - started < 0.5 + SLACK_S


def test_a_stopped_server_costs_the_deadline_each_time_and_recovers_by_itself(
    frail_broker: Server, app_id: str, new_publisher: NewPublisher
) -> None:
    publisher = new_publisher(frail_broker.url)
    publisher.publish_events([b"before"])
    publisher.send_timeout_ms = 600
    frail_broker.pause()
    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            publisher.publish_events([b"lost, or not"])
        assert time.monotonic() - started < 0.6 + SLACK_S
    frail_broker.resume()
    publisher.send_timeout_ms = 10_000
    publisher.publish_events([b"after"])
    with Inbox(frail_broker.url, app_id) as inbox:
        wait_until(lambda: b"after" in inbox.bodies, description="what was sent after the stop")


def test_a_paused_server_costs_the_deadline(streams: RespServer, new_publisher: NewPublisher) -> None:
    """CLIENT PAUSE: the server runs and answers nobody."""
    publisher = new_publisher(streams.url)
    publisher.publish_events([b"[]"])
    publisher.send_timeout_ms = 400
    with redis.Redis.from_url(streams.url) as admin:
        admin.execute_command("CLIENT", "PAUSE", "700", "ALL")
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="no answer|timed out|TimeoutError"):
            publisher.publish_events([b"[]"])
        assert time.monotonic() - started < 0.4 + SLACK_S
    publisher.send_timeout_ms = 10_000
    publisher.publish_events([b"[]"])


def test_a_broken_pooled_connection_is_not_noticed_by_the_sender(
    frail_broker: Server, app_id: str, new_publisher: NewPublisher
) -> None:
    publisher = new_publisher(frail_broker.url)
    publisher.publish_events([b"one"])
    frail_broker.restart()
    publisher.publish_events([b"two"])
    with Inbox(frail_broker.url, app_id) as inbox:
        inbox.wait_for(2)
    assert inbox.bodies == [b"one", b"two"]


def test_a_connection_that_breaks_while_it_sends_is_replaced(
    streams: RespServer, app_id: str, new_publisher: NewPublisher
) -> None:
    publisher = new_publisher(streams.url)
    publisher.publish_events([b"first"])
    with redis.Redis.from_url(streams.url) as admin:
        admin.execute_command("CLIENT", "PAUSE", "400", "WRITE")
        sending = threading.Thread(target=publisher.publish_events, args=([b"second"],))
        sending.start()
        wait_until(lambda: has_waiting_send(admin), description="a send that waits")
        admin.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")
        sending.join()
    with Inbox(streams.url, app_id) as inbox:
        inbox.wait_for(2)
    assert inbox.bodies == [b"first", b"second"]


def has_waiting_send(admin: redis.Redis) -> bool:
    return any(each["cmd"] == "xadd" and "b" in each["flags"] for each in admin.client_list())


def test_many_threads_share_a_publisher(broker: Server, app_id: str, new_publisher: NewPublisher) -> None:
    publisher = new_publisher(broker.url, send_timeout_ms=20_000)

    def send(first: int) -> None:
        for number in range(first, first + 25):
            publisher.publish_events([str(number).encode()])

    threads = [threading.Thread(target=send, args=(first,)) for first in range(0, 300, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Inbox(broker.url, app_id) as inbox:
        inbox.wait_for(300)
    assert sorted(inbox.bodies) == sorted(str(number).encode() for number in range(300))


def test_a_forked_child_sends_over_connections_of_its_own(
    broker: Server, app_id: str, new_publisher: NewPublisher
) -> None:
    publisher = new_publisher(broker.url)
    unused = new_publisher(broker.url)
    unused.publish_events([b"parent"])
    connections = list(unused._idle)
    publisher.publish_events([b"parent"])
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            unused.close()
            for _ in range(50):
                publisher.publish_events([b"child"])
            status = 0
        finally:
            os._exit(status)
    for _ in range(50):
        publisher.publish_events([b"parent"])
    _, status = os.waitpid(pid, 0)
    assert status == 0
    unused.publish_events([b"parent"])
    assert list(unused._idle) == connections, "the child has closed the parent's connection"
    with Inbox(broker.url, app_id) as inbox:
        inbox.wait_for(103)
    assert inbox.bodies.count(b"child") == 50
    assert inbox.bodies.count(b"parent") == 53


def test_a_server_that_lost_everything_gets_the_queues_again(
    app_id: str, new_publisher: NewPublisher
) -> None:
    with ValkeyServer() as server:
        publisher = new_publisher(server.url)
        publisher.publish_events([b"gone"])
        with redis.Redis.from_url(server.url) as admin:
            admin.flushall()
        publisher.publish_events([b"kept"])
        with Inbox(server.url, app_id) as inbox:
            inbox.wait_for(1)
    assert inbox.bodies == [b"kept"]


def test_a_queue_that_somebody_deleted_is_declared_again(
    broker: Server, app_id: str, new_publisher: NewPublisher
) -> None:
    """An exchange without queues drops what it gets; the broker must say so, and the publisher mend it."""
    publisher = new_publisher(broker.url)
    publisher.publish_work(["default"])
    with new_connection(broker.url) as connection:
        kombu_queue(Topology().work_queue(app_id, "default"))(connection.default_channel).delete()
    publisher.publish_work(["default"])
    with Inbox(broker.url, queues=[Topology().work_queue(app_id, "default")]) as inbox:
        inbox.wait_for(1)


# -- async


@pytest.fixture
def sender(broker: Server, new_publisher: NewPublisher) -> Iterator[AsyncPublisher]:
    publisher = AsyncPublisher(new_publisher(broker.url))
    yield publisher
    publisher.close()


async def test_coroutines_share_round_trips(sender: AsyncPublisher, broker: Server, app_id: str) -> None:
    await asyncio.gather(*(sender.publish_events([str(number).encode()]) for number in range(500)))
    await sender.publish_work(["default"])
    with Inbox(broker.url, app_id) as inbox:
        inbox.wait_for(500)
    assert inbox.bodies == [str(number).encode() for number in range(500)]


async def test_pending_messages_go_out_in_few_batches(
    streams: RespServer, new_publisher: NewPublisher
) -> None:
    publisher = CountingPublisher(streams.url, app_id="counting", send_timeout_ms=10_000)
    sender = AsyncPublisher(publisher)
    await asyncio.gather(*(sender.publish_events([b"[]"]) for _ in range(300)))
    sender.close()
    publisher.close()
    assert sum(publisher.batches) == 300
    assert len(publisher.batches) < 30


def test_several_loops_share_an_async_publisher(sender: AsyncPublisher, broker: Server, app_id: str) -> None:
    async def send() -> None:
        await asyncio.gather(*(sender.publish_events([b"[]"]) for _ in range(50)))

    threads = [threading.Thread(target=asyncio.run, args=(send(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Inbox(broker.url, app_id) as inbox:
        inbox.wait_for(200)


async def test_the_loop_runs_on_while_the_broker_hangs(mute_port: int, new_publisher: NewPublisher) -> None:
    sender = AsyncPublisher(new_publisher(f"redis://127.0.0.1:{mute_port}/", send_timeout_ms=500))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.create_task(tick())
    started = time.monotonic()
    results = await asyncio.gather(
        *(sender.publish_events([b"[]"]) for _ in range(3)), return_exceptions=True
    )
    took_s = time.monotonic() - started
    ticking.cancel()
    sender.close()
    assert all(isinstance(result, BrokerUnavailable) for result in results)
    assert took_s < 0.5 + SLACK_S
    assert ticks > 20


async def test_who_waits_in_the_queue_waits_no_longer_than_the_deadline(
    mute_port: int, new_publisher: NewPublisher
) -> None:
    """The thread is busy with the first one for all of its time; the second's time has begun at its own call."""
    sender = AsyncPublisher(new_publisher(f"redis://127.0.0.1:{mute_port}/", send_timeout_ms=500))
    first = asyncio.create_task(sender.publish_events([b"[]"]))
    await asyncio.sleep(0.25)
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        await sender.publish_events([b"[]"])
    assert time.monotonic() - started < 0.5 + SLACK_S
    with pytest.raises(BrokerUnavailable):
        await first
    sender.close()


async def test_a_cancelled_sender_disturbs_nobody(
    sender: AsyncPublisher, broker: Server, app_id: str
) -> None:
    cancelled = asyncio.create_task(sender.publish_events([b"maybe"]))
    kept = asyncio.create_task(sender.publish_events([b"sure"]))
    await asyncio.sleep(0)
    cancelled.cancel()
    await kept
    with Inbox(broker.url, app_id) as inbox:
        wait_until(lambda: b"sure" in inbox.bodies, description="what was not cancelled")


class CountingPublisher(Publisher):
    """Notes how many messages each round trip carries."""

    def __init__(self, url: str, *, app_id: str, send_timeout_ms: int) -> None:
        super().__init__(url, app_id=app_id, send_timeout_ms=send_timeout_ms)
        self.batches: list[int] = []

    def send(self, letter: object, deadline: object) -> None:
        self.batches.append(len(letter.messages))  # type: ignore[attr-defined]
        super().send(letter, deadline)  # type: ignore[arg-type]


def test_what_goes_past_kombu_is_what_kombu_writes(streams: RespServer, new_publisher: NewPublisher) -> None:
    """Any kombu consumer reads it."""
    publisher = new_publisher(streams.url)
    publisher.publish_events([b'[{"n":1}]'])
    publisher.publish_work(["default"])
    letters = (publisher.events_letter([b'[{"n":1}]']), publisher.work_letter(["default"]))
    with new_connection(streams.url) as connection:
        connection.connect()
        by_kombu = KombuSession(connection)
        for letter in letters:
            by_kombu.publish(letter.messages, Deadline(5))
    with redis.Redis.from_url(streams.url) as client:
        for letter in letters:
            (queue_name,) = letter.queues
            (_, ours), (_, kombus) = client.xrange(f"tf:{{b}}:q:{queue_name}")
            assert ours == kombus
