"""S7.8: one run for each value in 24 hours."""

from __future__ import annotations

from collections import Counter

import pytest

from taskflow import Context, Event, RateLimit, RunSkipped, Step, TaskFlow
from taskflow.testing import Harness
from tests.flow.routers import Routers, run_of, wire
from tests.rules.views import view

pytestmark = pytest.mark.usefixtures("no_bugs")

DAY_MS = 86_400_000


async def test_the_second_event_with_a_value_is_skipped_and_says_why(app: TaskFlow) -> None:
    @app.function(trigger="paid", idempotency="event.data.order")
    async def ship(ctx: Context[Step]) -> str:
        return "shipped"

    async with Harness(app) as harness:
        first, second, other = await harness.send([Event("paid", {"order": n}) for n in (7, 7, 8)])
        run = await harness.run_of(ship, first)
        assert await run.aresult() == "shipped"
        assert await (await harness.run_of(ship, other)).aresult() == "shipped"
        skipped = await harness.run_of(ship, second)
        assert (await view(harness, skipped)).why == f"skipped: idempotency: 7 has run as {run.id}"
        with pytest.raises(RunSkipped):
            await skipped.aresult()


async def test_a_value_counts_for_24_hours_of_the_engines_clock(valkey_url: str) -> None:
    async with Routers.open(valkey_url, idempotency="event.data.order") as routers:
        events = [wire(number, order=7) for number in range(4)]
        for event, at_ms in zip(events, (0, DAY_MS - 1, DAY_MS, DAY_MS + 1), strict=True):
            await routers.route(event, at_ms=at_ms)
        statuses = await routers.statuses()
        assert [statuses[run_of(event)] for event in events] == ["queued", "skipped", "queued", "skipped"]


async def test_equal_numbers_are_one_value_and_other_types_are_others(valkey_url: str) -> None:
    async with Routers.open(valkey_url, idempotency="event.data.order") as routers:
        values = [7, 7.0, "7", True, None, [7], {"n": 7}]
        events = [wire(number, order=value) for number, value in enumerate(values)]
        await routers.route(*events)
        statuses = await routers.statuses()
        assert [statuses[run_of(event)] for event in events] == ["queued", "skipped"] + ["queued"] * 5


async def test_events_without_the_field_count_as_one_value(valkey_url: str) -> None:
    async with Routers.open(valkey_url, idempotency="event.data.order") as routers:
        await routers.route(wire(1), wire(2))
        assert await routers.statuses() == {run_of(wire(1)): "queued", run_of(wire(2)): "skipped"}


async def test_an_event_that_the_rate_limit_refuses_does_not_use_the_value_up(valkey_url: str) -> None:
    async with Routers.open(
        valkey_url, idempotency="event.data.order", rate_limit=RateLimit(1, "1m")
    ) as routers:
        events = [wire(number, order=order) for number, order in enumerate(["a", "b", "b", "a"])]
        await routers.route(*events[:2])
        assert (await routers.record(events[1])).startswith("skipped: rate limit")
        await routers.route(events[2], at_ms=60_000)
        statuses = await routers.statuses()
        assert [statuses[run_of(event)] for event in events[:3]] == ["queued", "skipped", "queued"]


async def test_an_event_that_idempotency_refuses_does_not_count_for_the_rate_limit(valkey_url: str) -> None:
    async with Routers.open(
        valkey_url, idempotency="event.data.order", rate_limit=RateLimit(2, "1m")
    ) as routers:
        events = [wire(number, order=order) for number, order in enumerate("aab")]
        await routers.route(*events)
        statuses = await routers.statuses()
        assert [statuses[run_of(event)] for event in events] == ["queued", "skipped", "queued"]


async def test_a_thousand_events_at_one_time_make_one_run(valkey_url: str) -> None:
    async with Routers.open(valkey_url, count=8, idempotency="event.data.order") as routers:
        events = [wire(number, order=7) for number in range(1_000)]
        await routers.route_all(events)
        assert Counter((await routers.statuses()).values()) == {"queued": 1, "skipped": 999}


async def test_the_run_itself_is_not_refused_when_its_event_comes_again(valkey_url: str) -> None:
    async with Routers.open(valkey_url, idempotency="event.data.order") as routers:
        await routers.route(wire(1, order=7))
        before = await routers.scene.state()
        await routers.route(wire(1, order=7), at_ms=1_000)
        assert await routers.scene.state() == before
