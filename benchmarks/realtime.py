"""realtime: how soon a message reaches a browser's event stream, and what many subscribers cost a web process.

A `taskflow web` serves server-sent events to this process, which publishes. The CPU time of the web process counts, as store and
client share the machine with it.
"""

from __future__ import annotations

import asyncio
import re
import time
from urllib.parse import SplitResult, urlsplit

import psutil

from benchmarks.harness import Stack
from benchmarks.report import Benchmark, Figures, Row, Scale, at_most, percentile
from taskflow import TaskFlow, TopicRef

CHANNELS = 100
PAUSE_S = 0.005


class Subscriber:
    """Reads an event stream as cheaply as Python can: it looks for the begin of each message alone."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.count = 0
        self.began = asyncio.Event()
        self.reached = asyncio.Event()
        self.expected = 0
        self.last_ns = 0
        self.writer: asyncio.StreamWriter | None = None

    async def read(self, place: SplitResult) -> None:
        reader, self.writer = await asyncio.open_connection(place.hostname, place.port)
        self.writer.write(
            f"GET /v1/realtime/sse?channel={self.channel} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        rest = b""
        while part := await reader.read(1 << 16):
            now_ns = time.monotonic_ns()
            text = rest + part
            if b'"kind":"sub"' in text:
                self.began.set()
            if found := text.count(b'"kind":"data"'):
                self.count += found
                self.last_ns = now_ns
                if self.count >= self.expected:
                    self.reached.set()
            # A mark that was cut in two is counted with the next part.
            rest = text[text.rfind(b"\n\n") + 2 :] if b"\n\n" in text else text


def measure(scale: Scale) -> Figures:
    with Stack() as stack, stack.command("web", "--dev", "--port", "0", "--app", "bench") as web:
        found = re.search(r"http://\S+", web.wait_for_line("http://"))
        assert found
        server, place = psutil.Process(web.pid), urlsplit(found[0])
        return asyncio.run(measure_both(stack.server.url, place, server, scale))


async def measure_both(url: str, place: SplitResult, server: psutil.Process, scale: Scale) -> Figures:
    app = TaskFlow("bench", broker=url, store=url)
    try:
        alone = await delays_ms(app, place, scale.pick(500, 20))
        fan_out = await many(app, place, server, scale.pick(1_000, 40), seconds=scale.pick(10, 1))
    finally:
        await app.aclose()
    return {"p50_ms": percentile(alone, 50), "p99_ms": percentile(alone, 99), **fan_out}


async def delays_ms(app: TaskFlow, place: SplitResult, count: int) -> list[float]:
    """From the call of `publish` to the message in the hands of a subscriber, one at a time."""
    subscriber, topic = Subscriber("alone"), TopicRef[int]("alone", "n")
    reading = asyncio.create_task(subscriber.read(place))
    await subscriber.began.wait()
    # It connects, and is not measured.
    await app.apublish(topic, 0)
    delays = []
    for number in range(count):
        subscriber.expected = number + 2
        subscriber.reached.clear()
        began_ns = time.monotonic_ns()
        await app.apublish(topic, number)
        await subscriber.reached.wait()
        delays.append((subscriber.last_ns - began_ns) / 1e6)
        await asyncio.sleep(PAUSE_S)
    await leave([subscriber], [reading])
    return delays


async def many(
    app: TaskFlow, place: SplitResult, server: psutil.Process, subscribers: int, *, seconds: int
) -> Figures:
    """1,000 messages a second on 100 channels, each to a share of the subscribers."""
    readers = [Subscriber(f"c{number % CHANNELS}") for number in range(subscribers)]
    tasks = [asyncio.create_task(reader.read(place)) for reader in readers]
    for reader in readers:
        await reader.began.wait()
        reader.expected = 10 * seconds
    topics = [TopicRef[dict[str, int]](f"c{number}", "n") for number in range(CHANNELS)]
    before, began_s = server.cpu_times(), time.monotonic()
    publishing: set[asyncio.Task[int]] = set()
    for turn in range(10 * seconds):
        # Ten times a second a message on each channel, spread over the tenth.
        for number, topic in enumerate(topics):
            due_s = began_s + turn / 10 + number / (10 * CHANNELS)
            if (ahead_s := due_s - time.monotonic()) > 0:
                await asyncio.sleep(ahead_s)
            task = asyncio.create_task(app.apublish(topic, {"turn": turn}))
            publishing.add(task)
            task.add_done_callback(publishing.discard)
    while publishing:
        await asyncio.wait(publishing)
    async with asyncio.timeout(30):
        for reader in readers:
            await reader.reached.wait()
    took_s, after = time.monotonic() - began_s, server.cpu_times()
    cpu_s = float(after.user + after.system - before.user - before.system)
    delivered = sum(reader.count for reader in readers)
    assert delivered == subscribers * 10 * seconds, f"{delivered} of {subscribers * 10 * seconds} messages"
    await leave(readers, tasks)
    return {
        "cores": cpu_s / took_s, "delivery_us": 1e6 * cpu_s / delivered, "published_per_s": CHANNELS * 10 * seconds / took_s,
    }  # fmt: skip


async def leave(readers: list[Subscriber], tasks: list[asyncio.Task[None]]) -> None:
    for reader in readers:
        if reader.writer is not None:
            reader.writer.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


BENCHMARK = Benchmark(
    name="realtime",
    rows=(
        Row("p50_ms", "publish called to the message at a subscriber, idle, p50", "ms", at_most(5)),
        Row("p99_ms", "the same, p99", "ms"),
        Row("cores", "web process: 1,000 subscribers of 100 channels, 1,000 messages/s", "cores", at_most(1)),
        Row("delivery_us", "CPU of the web process for a message to one subscriber", "us"),
        Row("published_per_s", "messages published", "messages/s"),
    ),
    measure=measure,
)
