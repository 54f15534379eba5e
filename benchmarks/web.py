"""web: how many events a second one core takes over HTTP, in lists of 100 and one by one.

A `taskflow web` serves, and this process sends over some connections. The CPU time of the web process counts, as store and client
share the machine with it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from urllib.parse import SplitResult, urlsplit

import orjson
import psutil

from benchmarks.harness import Stack
from benchmarks.report import Benchmark, Figures, Row, Scale, at_least

CONNECTIONS = 32
LENGTH = re.compile(rb"content-length: (\d+)")
EVENT = {"name": "bench/nobody", "data": {"sku": "A7", "count": 3}}


def measure(scale: Scale) -> Figures:
    singles, lists = scale.pick(16_000, 320), scale.pick(1_600, 64)
    with Stack() as stack, stack.command("web", "--dev", "--port", "0", "--app", "bench") as web:
        found = re.search(r"http://\S+", web.wait_for_line("http://"))
        assert found
        return asyncio.run(send_all(found[0], web.pid, singles, lists))


async def send_all(url: str, pid: int, singles: int, lists: int) -> Figures:
    place, one, hundred = urlsplit(url), orjson.dumps(EVENT), orjson.dumps([EVENT] * 100)
    server = psutil.Process(pid)
    await send(place, one, CONNECTIONS)  # connects, and looks who listens
    one_s = await cpu_of(server, send(place, one, singles))
    hundred_s = await cpu_of(server, send(place, hundred, lists))
    return {
        "one_by_one": singles / one_s, "lists": lists * 100 / hundred_s,
        "one_us": 1e6 * one_s / singles, "lists_us": 1e4 * hundred_s / lists,
    }  # fmt: skip


async def send(place: SplitResult, body: bytes, count: int) -> None:
    """Send a body so many times, over all connections. A client that does more would be slower than the server."""
    request = b"POST /e/bench HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async def part() -> None:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        for _ in range(count // CONNECTIONS):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = LENGTH.search(head)
            assert length, head
            await reader.readexactly(int(length[1]))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*[part() for _ in range(CONNECTIONS)])


async def cpu_of(server: psutil.Process, work: Awaitable[None]) -> float:
    """The CPU time (s) that the server needs for the work."""
    before = server.cpu_times()
    await work
    after = server.cpu_times()
    return float(after.user + after.system - before.user - before.system)


BENCHMARK = Benchmark(
    name="web",
    rows=(
        Row("one_by_one", "events over HTTP, one a request, on one core", "events/s", at_least(2_000)),
        Row("lists", "events over HTTP, lists of 100, on one core", "events/s", at_least(5_000)),
        Row("one_us", "CPU of the web process for an event that comes alone", "us"),
        Row("lists_us", "CPU of the web process for an event of a list of 100", "us"),
    ),
    measure=measure,
)
