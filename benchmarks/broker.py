"""What a message costs over a broker: one by one, in lists, from coroutines; and to consume and ack it.

    python -m benchmarks.broker redis://127.0.0.1:6379/0
    python -m benchmarks.broker --messages 20000 amqp://guest:guest@127.0.0.1//

Wall time and this process's CPU time, in us a message, best of three rounds. It uses an app of its own and drains its queue.
"""

from __future__ import annotations

import argparse
import asyncio
import threading
import time
import uuid
from collections.abc import Callable

from taskflow.broker.consumer import Consumer
from taskflow.broker.publisher import AsyncPublisher, Publisher
from taskflow.broker.streams.entry import Delivery
from taskflow.broker.topology import Topology

BODY = b'[{"uid":"01J9ZQ8VJ9K3X6M3W4Y5Z6A7B8","id":"order-1","name":"shop/order.created","data":{"order":1,'
BODY += b'"customer":"c-1000","total":12.5,"lines":[{"sku":"a","count":1},{"sku":"b","count":2}]},"ts":1762340000000}]'
ROUNDS = 3


def measure(label: str, count: int, action: Callable[[], None]) -> None:
    """Print the best of three rounds."""
    best: tuple[float, float] | None = None
    for _ in range(ROUNDS):
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        action()
        took = (time.perf_counter() - wall_s, time.process_time() - cpu_s)
        best = took if best is None else min(best, took)
    assert best is not None
    print(f"{label:28} {best[0] / count * 1e6:8.1f} us wall {best[1] / count * 1e6:8.1f} us cpu")


def consume(url: str, app_id: str, count: int) -> None:
    done = threading.Event()
    received = 0

    def take(deliveries: list[Delivery]) -> None:
        nonlocal received
        received += len(deliveries)
        consumer.ack(deliveries)
        if received >= count:
            done.set()

    consumer = Consumer(url, queues=[Topology().events_queue(app_id)], on_deliveries=take)
    consumer.start()
    done.wait(120)
    consumer.stop(10)
    assert received >= count, f"{received} of {count} messages came"


def run(url: str, messages: int) -> None:
    app_id = f"benchmark-{uuid.uuid4().hex[:8]}"
    publisher = Publisher(url, app_id=app_id, send_timeout_ms=60_000)
    sender = AsyncPublisher(publisher)
    few = max(messages // 10, 1)

    def one_by_one() -> None:
        for _ in range(few):
            publisher.publish_events([BODY])

    def in_lists() -> None:
        for _ in range(messages // 100):
            publisher.publish_events([BODY] * 100)

    def from_coroutines() -> None:
        async def send() -> None:
            await asyncio.gather(*(sender.publish_events([BODY]) for _ in range(messages)))

        asyncio.run(send())

    def consume_all() -> None:
        for _ in range(messages // 100):
            publisher.publish_events([BODY] * 100)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        consume(url, app_id, messages // 100 * 100)
        print(
            f"{'consume and ack':28} {(time.perf_counter() - wall_s) / messages * 1e6:8.1f} us wall "
            f"{(time.process_time() - cpu_s) / messages * 1e6:8.1f} us cpu"
        )

    publisher.publish_events([BODY])
    measure("publish, one by one", few, one_by_one)
    measure("publish, lists of 100", messages, in_lists)
    measure("publish, coroutines", messages, from_coroutines)
    consume(url, app_id, 1 + ROUNDS * (few + 2 * messages))
    for _ in range(ROUNDS):
        consume_all()
    sender.close()
    publisher.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--messages", type=int, default=10_000)
    arguments = parser.parse_args()
    run(arguments.url, arguments.messages)


if __name__ == "__main__":
    main()
