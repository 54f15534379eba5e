"""A broker that is killed and started again under load loses nothing that it took. Rules S9.1, S9.5."""

from __future__ import annotations

import threading

from taskflow.broker.publisher import Publisher
from taskflow.errors import BrokerUnavailable
from tests.brokers.conftest import NewInbox, NewPublisher
from tests.brokers.inbox import wait_until
from tests.servers import Server


class Load:
    """Sends numbered messages, over and over, and remembers which were taken."""

    def __init__(self, publisher: Publisher) -> None:
        self.taken: list[bytes] = []
        self._publisher = publisher
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        number = 0
        while not self._stop.wait(0.001):
            bodies = [str(number + offset).encode() for offset in range(3)]
            number += 3
            try:
                self._publisher.publish_events(bodies)
            except BrokerUnavailable:
                continue
            self.taken.extend(bodies)


def test_nothing_that_was_taken_is_lost_when_the_broker_is_killed(
    frail_broker: Server, app_id: str, new_publisher: NewPublisher, new_inbox: NewInbox
) -> None:
    load = Load(new_publisher(frail_broker.url, send_timeout_ms=2000))
    with new_inbox(frail_broker.url, app_id) as inbox:
        load.start()
        inbox.wait_for(100)
        for _ in range(2):
            frail_broker.restart()
            received = len(inbox.deliveries)
            inbox.wait_for(received + 100, timeout_s=30)
        load.stop()
        wait_until(
            lambda: set(inbox.bodies) >= set(load.taken), description="all that was taken", timeout_s=20
        )
    assert len(load.taken) > 200
