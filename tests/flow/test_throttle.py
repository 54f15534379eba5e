"""S7.3: how often runs start."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskflow import Context, Event, Step, TaskFlow, Throttle
from taskflow.errors import ConfigError
from taskflow.flow.options import FlowControl
from taskflow.store.store import Store
from taskflow.testing import Harness
from taskflow.types import FunctionId
from tests.servers import ValkeyServer
from tests.store.scene import NOW_MS, Scene

START_MS = 1_893_456_000_000


async def starts_of(harness: Harness, began: dict[str, int]) -> list[int]:
    return sorted(ms - START_MS for ms in began.values())


async def test_runs_start_evenly_spread(app: TaskFlow) -> None:
    began: dict[str, int] = {}

    @app.function(trigger="job", throttle=Throttle(10, "1s"))
    async def job(ctx: Context[Step]) -> None:
        began[ctx.run_id] = app._link.clock.now_ms()

    async with Harness(app, workers=2) as harness:
        await harness.send([Event("job") for _ in range(5)])
        await harness.advance(seconds=1)
        assert await starts_of(harness, began) == [0, 100, 200, 300, 400]


async def test_a_burst_starts_at_once_after_a_pause(app: TaskFlow) -> None:
    began: dict[str, int] = {}

    @app.function(trigger="job", throttle=Throttle(10, "1s", burst=3))
    async def job(ctx: Context[Step]) -> None:
        began[ctx.run_id] = app._link.clock.now_ms()

    async with Harness(app) as harness:
        await harness.send([Event("job") for _ in range(5)])
        await harness.advance(seconds=1)
        assert await starts_of(harness, began) == [0, 0, 0, 100, 200]


async def test_each_value_of_a_key_is_throttled_by_itself(app: TaskFlow) -> None:
    began: dict[str, int] = {}

    @app.function(trigger="job", throttle=Throttle(1, "1s", key="event.data.tenant"))
    async def job(ctx: Context[Step]) -> None:
        began[ctx.run_id] = app._link.clock.now_ms()

    async with Harness(app) as harness:
        await harness.send([Event("job", {"tenant": n % 2}) for n in range(4)])
        await harness.advance(seconds=5)
        assert await starts_of(harness, began) == [0, 0, 1_000, 1_000]


async def test_only_the_start_is_throttled(app: TaskFlow) -> None:
    """Steps, sleeps and retries of a run that has started are not held up."""

    @app.function(trigger="job", throttle=Throttle(1, "1h"))
    async def job(ctx: Context[Step], step: Step) -> str:
        await step.sleep("nap", "1s")
        return await step.run("one", lambda: "done")

    async with Harness(app) as harness:
        await harness.send([Event("job"), Event("job")])
        await harness.advance(seconds=1)
        first, second = await harness.runs(job)
        assert sorted([await first.astatus(), await second.astatus()]) == ["completed", "queued"]
        await harness.advance(hours=2)


class ReferenceGcra:
    """GCRA as its textbook says, in exact numbers: one queue for each key, in order of arrival."""

    def __init__(self, throttle: Throttle) -> None:
        self.interval = Fraction(throttle.interval_us, 1_000)
        self.tolerance = self.interval * (throttle.burst - 1)
        self.due: dict[str, Fraction] = defaultdict(Fraction)

    def start_ms(self, key: str, arrived_ms: int, not_before_ms: int) -> int:
        start_ms = max(arrived_ms, not_before_ms, ceil(self.due[key] - self.tolerance))
        self.due[key] = max(self.due[key], Fraction(start_ms)) + self.interval
        return start_ms


@pytest.fixture(scope="module")
def throttled_server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    limit=st.integers(1, 7),
    period_s=st.sampled_from([1, 2, 10]),
    burst=st.integers(1, 4),
    arrivals=st.lists(st.tuples(st.integers(0, 3_000), st.sampled_from(["a", "b"])), min_size=1, max_size=25),
)
def test_starts_agree_with_the_textbook(
    throttled_server: ValkeyServer, limit: int, period_s: int, burst: int, arrivals: list[tuple[int, str]]
) -> None:
    throttle = Throttle(limit, timedelta(seconds=period_s), burst=burst, key="event.data.key")
    arrivals = sorted(arrivals, key=lambda arrival: arrival[0])
    assert asyncio.run(play(throttled_server, throttle, arrivals)) == expected_starts(throttle, arrivals)


def expected_starts(throttle: Throttle, arrivals: list[tuple[int, str]]) -> list[tuple[str, int]]:
    reference = ReferenceGcra(throttle)
    last: dict[str, int] = defaultdict(int)
    starts = []
    for number, (at_ms, key) in enumerate(arrivals):
        last[key] = reference.start_ms(key, NOW_MS + at_ms, last[key])
        starts.append((f"r{number:03}", last[key] - NOW_MS))
    return starts


async def play(
    server: ValkeyServer, throttle: Throttle, arrivals: list[tuple[int, str]]
) -> list[tuple[str, int]]:
    """When each run starts in the store, in ms after NOW_MS; workers are always free."""
    store = await Store.open(server.url)
    try:
        await store.client.call("FLUSHDB")
        scene = Scene(store)
        flow = FlowControl.of(throttle=throttle)
        await scene.register(flow=flow.settings)
        function_id = FunctionId("shop/work")
        started: dict[str, int] = {}

        async def turn_to(now_ms: int) -> None:
            scene.now_ms = now_ms
            await scene.fire()
            for run in (await scene.claim(limit=1_000)).runs:
                started[run.claim.run_id] = now_ms - NOW_MS
                await scene.finish(run.claim, pending=False)

        async def pass_time(until_ms: int) -> None:
            while True:
                first = await store.client.call("ZRANGE", store.keys.timers, 0, 0, "WITHSCORES")
                if not first or float(first[1]) > until_ms:
                    return
                await turn_to(int(float(first[1])))

        for number, (at_ms, key) in enumerate(arrivals):
            await pass_time(NOW_MS + at_ms)
            scene.now_ms = NOW_MS + at_ms
            packed = flow.plan(function_id, {"data": {"key": key}})
            await scene.make_run(f"r{number:03}", flow=packed)
            await turn_to(NOW_MS + at_ms)
        await pass_time(NOW_MS + 10**9)
        return sorted(started.items())
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((0, "1s"), "throttle.limit"),
        ((1, "10ms"), "throttle.period"),
        ((1, "8d"), "throttle.period"),
        ((1, "soon"), "throttle.period"),
    ],
)
def test_wrong_throttles_are_refused(arguments: tuple[int, str], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        Throttle(*arguments)
