"""S7.4: how often events start runs; the excess is skipped."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskflow import Context, Event, RateLimit, RunSkipped, RunStatus, Singleton, Step, TaskFlow
from taskflow.testing import Harness
from tests.flow.routers import Routers, run_of, wire
from tests.rules.views import view
from tests.servers import ValkeyServer

pytestmark = pytest.mark.usefixtures("no_bugs")


async def test_the_excess_is_skipped_and_says_why(app: TaskFlow) -> None:
    @app.function(trigger="changed", rate_limit=RateLimit(2, "1m", key="event.data.doc"))
    async def index(ctx: Context[Step]) -> str:
        return "indexed"

    async with Harness(app) as harness:
        ids = await harness.send([Event("changed", {"doc": "a"}) for _ in range(3)])
        first, second, third = [await harness.run_of(index, event_id) for event_id in ids]
        assert [await first.aresult(), await second.aresult()] == ["indexed", "indexed"]
        assert await third.astatus() == RunStatus.SKIPPED
        reason = 'rate limit: 2 in 60 s for key "a"'
        assert (await view(harness, third)).why == f"skipped: {reason}"
        with pytest.raises(RunSkipped, match=r"was skipped: rate limit"):
            await third.aresult()
        record = await harness.store.history.event(ids[2])
        assert record["fn:shop/index"].decode() == f"skipped: {reason}"


async def test_one_more_may_start_after_each_part_of_the_period(app: TaskFlow) -> None:
    @app.function(trigger="changed", rate_limit=RateLimit(2, "1m"))
    async def index(ctx: Context[Step]) -> None: ...

    async def outcome() -> str:
        (event_id,) = await harness.send("changed")
        return str(await (await harness.run_of(index, event_id)).astatus())

    async with Harness(app) as harness:
        assert [await outcome() for _ in range(3)] == ["completed", "completed", "skipped"]
        await harness.advance(ms=29_999)
        assert await outcome() == "skipped"
        await harness.advance(ms=1)
        assert [await outcome(), await outcome()] == ["completed", "skipped"]


async def test_each_value_has_a_limit_of_its_own_and_a_missing_one_is_one(app: TaskFlow) -> None:
    @app.function(trigger="changed", rate_limit=RateLimit(1, "1m", key="event.data.doc"))
    async def index(ctx: Context[Step]) -> None: ...

    async with Harness(app) as harness:
        data = [{"doc": "a"}, {"doc": "b"}, {}, {"doc": "a"}, {}]
        ids = await harness.send([Event("changed", each) for each in data])
        statuses = [await (await harness.run_of(index, event_id)).astatus() for event_id in ids]
        assert statuses == ["completed"] * 3 + ["skipped"] * 2


async def test_an_event_that_another_limit_refuses_is_not_counted(app: TaskFlow) -> None:
    """S7.10"""

    @app.function(trigger="changed", rate_limit=RateLimit(2, "1d"), singleton=Singleton())
    async def index(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1m")

    async with Harness(app) as harness:

        async def outcome() -> str:
            (event_id,) = await harness.send("changed")
            return str(await (await harness.run_of(index, event_id)).astatus())

        assert [await outcome(), await outcome()] == ["waiting", "skipped"]
        await harness.advance(minutes=1)
        assert [await outcome(), await outcome()] == ["waiting", "skipped"]
        await harness.advance(minutes=1)
        (event_id,) = await harness.send("changed")
        skipped = await view(harness, await harness.run_of(index, event_id))
        assert skipped.why == "skipped: rate limit: 2 in 86400 s"


async def test_an_invocation_is_not_limited(app: TaskFlow) -> None:
    @app.function(trigger="changed", rate_limit=RateLimit(1, "1h"))
    async def index(ctx: Context[Step]) -> str:
        return "indexed"

    async with Harness(app) as harness:
        await harness.send("changed")
        assert await (await harness.start(index)).aresult() == "indexed"


async def test_a_limit_holds_over_routers_and_redelivered_events(valkey_url: str) -> None:
    async with Routers.open(valkey_url, count=8, rate_limit=RateLimit(37, "1h")) as routers:
        events = [wire(number) for number in range(300)]
        await routers.route_all(events, seed=1)
        assert Counter((await routers.statuses()).values()) == {"queued": 37, "skipped": 263}
        await routers.route_all(events, at_ms=3_600_000, seed=2)
        assert Counter((await routers.statuses()).values()) == {"queued": 37, "skipped": 263}
        await routers.route_all([wire(number) for number in range(300, 400)], at_ms=3_600_000)
        assert Counter((await routers.statuses()).values()) == {"queued": 74, "skipped": 326}


class Bucket:
    """A leaking bucket in exact numbers: each run puts 1 in, `limit` leak out in a period, and it never holds more than `limit`."""

    def __init__(self, limit: int, period_ms: int) -> None:
        self.limit = limit
        self.leak = Fraction(limit, period_ms)
        self.level = Fraction(0)
        self.at_ms = 0

    def admits(self, at_ms: int) -> bool:
        self.level = max(Fraction(0), self.level - (at_ms - self.at_ms) * self.leak)
        self.at_ms = at_ms
        if self.level + 1 > self.limit:
            return False
        self.level += 1
        return True


@pytest.fixture(scope="module")
def limited_server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@settings(max_examples=60, deadline=None, derandomize=True)
@example(limit=3, period_ms=1_000, gaps=[0, 0, 0, 0, 333, 1, 333, 333, 1])  # the interval is no whole number
@example(limit=7, period_ms=86_400_000, gaps=[0] * 8 + [12_342_857, 1])
@example(limit=1_000_000, period_ms=86_399_999, gaps=[0, 86, 1, 87])
@given(
    limit=st.integers(1, 9),
    period_ms=st.integers(1_000, 5_000),
    gaps=st.lists(st.integers(0, 1_200) | st.just(0), min_size=1, max_size=40),
)
def test_what_passes_agrees_with_a_leaking_bucket(
    limited_server: ValkeyServer, limit: int, period_ms: int, gaps: list[int]
) -> None:
    times = [sum(gaps[: place + 1]) for place in range(len(gaps))]
    bucket = Bucket(limit, period_ms)
    limits = RateLimit(limit, timedelta(milliseconds=period_ms))
    assert asyncio.run(play(limited_server, limits, times)) == [bucket.admits(at_ms) for at_ms in times]


async def play(server: ValkeyServer, rate_limit: RateLimit, times: list[int]) -> list[bool]:
    """Whether an event that comes at each of these times starts a run in the store."""
    async with Routers.open(server.url, rate_limit=rate_limit) as routers:
        events = [wire(number) for number in range(len(times))]
        for event, at_ms in zip(events, times, strict=True):
            await routers.route(event, at_ms=at_ms)
        statuses = await routers.statuses()
        return [statuses[run_of(event)] == "queued" for event in events]
