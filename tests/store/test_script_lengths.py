"""However wide a run is and however many wait for one event: no script keeps the server for more than some milliseconds.

A command of a script takes the server a microsecond or two. So commands are counted: times would be those of the machine.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from taskflow.context import Context
from taskflow.redis.scripts import load_scripts
from taskflow.step import Step
from taskflow.store.control import cancel_reason
from taskflow.store.store import PACKAGE
from taskflow.testing import Harness
from tests.conftest import MakeApp
from tests.servers import ValkeyServer

MOST = 2_500  # commands of one script
WIDE = 1_500
NAMES = {script.sha: name for name, script in load_scripts(PACKAGE).items()}
SHOWN = re.compile(rb'\+[\d.]+ \[\d+ (\S+)\] "(\w+)"(?: "([0-9a-f]{40})")?', re.IGNORECASE)
END = b"the end of the test"


@contextmanager
def longest_scripts(server: ValkeyServer) -> Iterator[Counter[str]]:
    """How many commands the longest call of each script gave, once the block has ended."""
    longest: Counter[str] = Counter()
    seen: list[bytes] = []
    with socket.create_connection(("127.0.0.1", server.port)) as monitor:
        monitor.sendall(b"MONITOR\r\n")
        assert monitor.recv(64) == b"+OK\r\n"

        def read() -> None:
            while END not in b"".join(seen[-2:]):
                seen.append(monitor.recv(1 << 20))

        reader = threading.Thread(target=read)
        reader.start()
        yield longest
        with socket.create_connection(("127.0.0.1", server.port)) as other:
            other.sendall(b'ECHO "' + END + b'"\r\n')
            other.recv(64)
        reader.join(20)
    name, commands = "", 0
    for line in b"".join(seen).splitlines():
        if (found := SHOWN.match(line)) is None:
            continue
        client, _, sha = found.groups()
        if client == b"lua":
            commands += 1
            longest[name] = max(longest[name], commands)
        else:
            name, commands = NAMES.get((sha or b"").decode(), "another"), 0


def assert_all_are_short(longest: Counter[str], *expected: str) -> None:
    assert set(expected) <= set(longest), "what was to be measured did not happen"
    assert {name: count for name, count in longest.items() if count > MOST} == {}


async def test_a_wide_run(make_app: MakeApp, valkey_server: ValkeyServer) -> None:
    """It sleeps in parallel, is suspended, woken once, and goes on."""
    app = make_app(max_steps=10_000)

    @app.function(trigger="begin")
    async def sleepy(ctx: Context[Step], step: Step) -> int:
        return len(await asyncio.gather(*[step.sleep(f"s{n}", 1) for n in range(WIDE)]))

    async with Harness(app) as harness:
        with longest_scripts(valkey_server) as longest:
            run = await harness.send("begin", {})
            await harness.advance(seconds=1)
            assert await run.aresult() == WIDE
    assert_all_are_short(longest, "park_run", "fire_timers", "claim_runs")


async def test_a_wide_run_that_is_cancelled(make_app: MakeApp, valkey_server: ValkeyServer) -> None:
    app = make_app(max_steps=10_000)

    @app.function(trigger="begin")
    async def sleepy(ctx: Context[Step], step: Step) -> None:
        await asyncio.gather(*[step.sleep(f"s{n}", 1) for n in range(WIDE)])

    async with Harness(app) as harness:
        run = await harness.send("begin", {})
        with longest_scripts(valkey_server) as longest:
            assert await run.run.acancel()
            await harness.settled()
        assert await run.astatus() == "cancelled"
    assert_all_are_short(longest, "cancel_runs")


async def test_many_waits_for_one_event(make_app: MakeApp, valkey_server: ValkeyServer) -> None:
    app = make_app(max_steps=10_000)

    @app.function(trigger="begin")
    async def waiting(ctx: Context[Step], step: Step) -> int:
        waits = [step.wait_for_event(f"w{n}", "go", timeout="1h") for n in range(WIDE)]
        return sum(event is not None for event in await asyncio.gather(*waits))

    async with Harness(app) as harness:
        run = (await harness.send("begin", {})).run
        with longest_scripts(valkey_server) as longest:
            await harness.send("go", {})
            assert await run.aresult() == WIDE
    assert_all_are_short(longest, "find_waits", "route_events")


async def test_wide_runs_that_are_cancelled_in_bulk(make_app: MakeApp) -> None:
    """S6.1: one script cancels as many as it can in short time, and leaves the rest to the next."""
    app = make_app(max_steps=10_000)

    @app.function(trigger="begin")
    async def sleepy(ctx: Context[Step], step: Step) -> None:
        await asyncio.gather(*[step.sleep(f"s{n}", 60) for n in range(400)])

    async with Harness(app) as harness:
        runs = [(await harness.send("begin", {})).run for _ in range(7)]
        ids = [run.id for run in runs]
        reason, now_ms = cancel_reason("no more"), harness.clock.now_ms()
        outcomes, _ = await harness.store.routing.cancel(ids, reason=reason, now_ms=now_ms)
        assert outcomes == ["cancelled"] * 2
        assert await app.acancel_runs(sleepy) == 5
        assert [await run.astatus() for run in runs] == ["cancelled"] * 7
