"""S3.3: wait_for_event."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.blocking_step import BlockingStep
from taskflow.context import Context
from taskflow.errors import ConfigError, InvalidDuration, NonRetriableError, RunFailed
from taskflow.event import Event, encode_events
from taskflow.function import Function
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from tests.conftest import MakeApp
from tests.rules.givens import both_kinds, has_step, is_waiting, waiting_function
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("no_bugs")


@both_kinds
async def test_a_wait_returns_the_first_matching_event(app: TaskFlow, is_async: bool) -> None:
    """S3.3"""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        got = await step.wait_for_event("paid", "shop/paid", timeout="7 days")
        assert got is not None
        return [got.name, got.id, got.data, got.ts, got.user, got.v]

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        got = step.wait_for_event("paid", "shop/paid", timeout="7 days")
        assert got is not None
        return [got.name, got.id, got.data, got.ts, got.user, got.v]

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        assert harness.slots_in_use == 0
        await harness.send("shop/pai")
        await harness.send("shop/other", {"n": 0})
        assert await is_waiting(run)
        await harness.send(
            Event("shop/paid", {"n": 1}, id="mine", ts=1_700_000_000_007, user={"u": 1}, v="2")
        )
        await harness.send("shop/paid", {"n": 2})
        assert await run.aresult("1s") == ["shop/paid", "mine", {"n": 1}, 1_700_000_000_007, {"u": 1}, "2"]


@both_kinds
async def test_a_wait_returns_none_at_its_timeout(app: TaskFlow, is_async: bool) -> None:
    """S3.3"""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        return [await step.wait_for_event("paid", "paid", timeout="1h30m")]

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        return [step.wait_for_event("paid", "paid", timeout="1h30m")]

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        await harness.advance(ms=5_399_999)
        assert await is_waiting(run)
        await harness.advance(ms=1)
        assert await run.aresult("1s") == [None]
        await harness.send("paid")


async def test_an_event_in_time_leaves_no_timeout_behind(app: TaskFlow) -> None:
    """S3.3"""
    waits = waiting_function(app)
    async with Harness(app) as harness:
        run = await harness.start(waits)
        await harness.advance(ms=3_599_999)
        await harness.send("paid", {"n": 1})
        assert await run.aresult("1s") == {"n": 1}
        assert await harness.next_due_ms() is None


async def test_an_event_before_the_wait_is_not_seen(app: TaskFlow) -> None:
    """S3.3: also not when its broker message comes again after the wait is stored."""
    waits = waiting_function(app)
    async with Harness(app, workers=2) as harness:
        _, messages = encode_events(
            [Event("paid", {"n": n}) for n in range(3)], now_ms=harness.clock.now_ms(), max_bytes=10_000
        )
        await app._link.async_publisher.publish_events(messages)
        await harness.settled()
        run = await harness.start(waits)
        await app._link.async_publisher.publish_events(messages)
        await harness.settled()
        assert await is_waiting(run)
        await harness.send("paid", {"n": 9})
        assert await run.aresult("1s") == {"n": 9}


async def test_an_app_that_routes_an_event_late_does_not_wake_waits_of_another(make_app: MakeApp) -> None:
    """S3.3, S1.6: the other app's copy of an event may be days old."""
    shop, risk = make_app("shop"), make_app("risk")
    waits = waiting_function(shop)
    waiting_function(risk)
    async with Harness(shop, risk) as harness:
        clock = harness.clock
    async with Harness(shop, clock=clock) as harness:  # the workers of risk are down
        await harness.send("paid", {"n": 1})
        run = await harness.start(waits)
        async with Harness(risk, clock=clock) as late:
            await late.settled()
            assert await is_waiting(run)
            await harness.send("paid", {"n": 2})
            assert await run.aresult("1s") == {"n": 2}


async def test_a_duplicate_does_not_wake_a_wait_even_if_it_is_new_to_another_app(make_app: MakeApp) -> None:
    """S3.3, S1.3"""
    shop, risk = make_app("shop"), make_app("risk")
    waits = waiting_function(shop)
    async with Harness(shop) as harness:
        await harness.send("paid", {"n": 1}, id="order-7")
        run = await harness.start(waits)
        async with Harness(risk, clock=harness.clock) as other:
            await harness.send("paid", {"n": 2}, id="order-7")
            await other.settled()
            assert await is_waiting(run)
        await run.acancel()


async def test_an_event_of_another_app_ends_a_wait(make_app: MakeApp) -> None:
    """S3.3, S1.6"""
    shop, web = make_app("shop"), make_app("web")
    waits = waiting_function(shop)
    async with Harness(shop) as harness:
        run = await harness.start(waits)
        await harness.send("paid", {"n": 1}, app=web)
        assert await run.aresult("1s") == {"n": 1}


@pytest.mark.parametrize("name", ["a\x1fb", "\x1f", "a:b", "a\x00", "{a}", "ü"])
async def test_the_name_of_an_event_may_hold_any_character(app: TaskFlow, name: str) -> None:
    @app.function()
    async def waits(ctx: Context[Step], step: Step) -> list[Any]:
        whole = await step.wait_for_event("whole", name, "1h", match="data.id")
        pattern = await step.wait_for_event("pattern", f"{name}*", "1h")
        return [event and event.data["id"] for event in (whole, pattern)]

    async with Harness(app) as harness:
        run = await harness.start(waits, {"id": 1})
        await harness.send(name, {"id": 1})
        await harness.send(name, {"id": 1})
        assert await run.aresult() == [1, 1]


async def test_if_exp_is_cel_over_both_events(app: TaskFlow) -> None:
    """S3.3"""
    waits = waiting_function(
        app, if_exp="async.data.amount >= event.data.total && async.name.startsWith('pa')"
    )
    async with Harness(app) as harness:
        small, large = [await harness.start(waits, {"total": total}) for total in (10, 100)]
        for data in ({}, {"amount": "much"}, {"amount": 9}):  # an expression that fails is no match
            await harness.send("paid", data)
        assert await is_waiting(small) and await is_waiting(large)
        await harness.send("paid", {"amount": 10})
        assert await small.aresult("1s") == {"amount": 10}
        assert await is_waiting(large)
        await harness.send("paid", {"amount": 1_000})
        assert await large.aresult("1s") == {"amount": 1_000}


async def test_with_match_and_if_exp_both_must_hold(app: TaskFlow) -> None:
    """S3.3"""
    waits = waiting_function(app, match="data.order_id", if_exp="async.data.ok")
    async with Harness(app) as harness:
        run = await harness.start(waits, {"order_id": 7})
        for data in (
            {"order_id": 7, "ok": False},
            {"order_id": 8, "ok": True},
            {"order_id": 7},
            {"ok": True},
        ):
            await harness.send("paid", data)
        assert await is_waiting(run)
        await harness.send("paid", {"order_id": 7, "ok": True})
        assert await run.aresult("1s") == {"order_id": 7, "ok": True}


async def test_a_list_of_names_waits_for_the_first_of_any(app: TaskFlow) -> None:
    """S3.3"""
    waits = waiting_function(app, ["paid", "refused", "paid", "expired"], match="data.id")
    async with Harness(app) as harness:
        first, second, third = [await harness.start(waits, {"id": n}) for n in range(3)]
        await harness.send([Event("refused", {"id": 1, "n": 1}), Event("paid", {"id": 0, "n": 2})])
        assert await first.aresult("1s") == {"id": 0, "n": 2}
        assert await second.aresult("1s") == {"id": 1, "n": 1}
        await harness.advance(hours=1)
        assert await third.aresult("1s") is None


async def test_one_event_ends_the_waits_of_many_runs(app: TaskFlow) -> None:
    """S3.3"""
    waits = waiting_function(app)
    conditional = waiting_function(app, if_exp="async.data.n == 1", id="conditional")
    async with Harness(app, workers=2, concurrency=3) as harness:
        runs = [await waits.ainvoke() for _ in range(20)] + [await conditional.ainvoke() for _ in range(20)]
        await harness.settled()
        (event_id,) = await harness.send("paid", {"n": 1})
        assert [await run.aresult("1s") for run in runs] == [{"n": 1}] * 40
        told = await harness.store.history.event(event_id)
        assert sum(value == b"resumed" for value in told.values()) == 40


@both_kinds
async def test_one_event_ends_all_matching_waits_of_a_run(app: TaskFlow, is_async: bool) -> None:
    """S3.3, S3.7"""

    @app.function(id="async")
    async def in_async(ctx: Context[Step], step: Step) -> Any:
        got = await asyncio.gather(
            *[step.wait_for_event("w", "paid", "1h", if_exp=f"async.data.n > {n}") for n in range(4)]
        )
        return [event and event.data["n"] for event in got]

    @app.function(id="def")
    def in_def(ctx: Context[BlockingStep], step: BlockingStep) -> Any:
        branches = [
            partial(step.wait_for_event, f"w{n}", "paid", "1h", if_exp=f"async.data.n > {n}")
            for n in range(4)
        ]
        return [event and event.data["n"] for event in step.parallel(branches)]

    functions: tuple[Function[..., Any], ...] = (in_def, in_async)
    async with Harness(app) as harness:
        run = await harness.start(functions[is_async])
        await harness.send("paid", {"n": 2})
        assert await is_waiting(run)
        await harness.send("paid", {"n": 3})
        await harness.advance(hours=1)
        assert await run.aresult("1s") == [2, 2, 3, None]


async def test_waits_one_after_the_other_take_one_event_each(app: TaskFlow) -> None:
    """S3.3, S3.8"""

    @app.function()
    async def collect(ctx: Context[Step], step: Step) -> list[int]:
        got = []
        for _ in range(5):
            event = await step.wait_for_event("next", "item", timeout="1h")
            assert event is not None
            got.append(event.data["n"])
        return got

    async with Harness(app, workers=2) as harness:
        run = await harness.start(collect)
        for n in range(6):
            await harness.send("item", {"n": n})
        assert await run.aresult("1s") == [0, 1, 2, 3, 4]


async def test_an_event_for_a_wait_next_to_a_running_step_is_not_missed(app: TaskFlow) -> None:
    """S3.3: a wait is stored while another branch executes."""
    gate = asyncio.Event()

    @app.function()
    async def both(ctx: Context[Step], step: Step) -> Any:
        event, _ = await asyncio.gather(
            step.wait_for_event("paid", "paid", "1h"), step.run("slow", gate.wait)
        )
        return event and event.data

    async with Harness(app) as harness:
        run = await both.ainvoke()
        await until(lambda: has_step(harness, run, "paid", "wait"), description="the wait in the store")
        await app.asend("paid", {"n": 1})
        await until(lambda: has_step(harness, run, "paid", "done"), description="the event in the store")
        gate.set()
        assert await run.aresult("1s") == {"n": 1}
        await harness.settled()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"event": "sh*p"}, r"wait_for_event\('wait'\) may have a '\*' only at its end, got 'sh\*p'"),
        ({"lookback": "soon"}, r"wait_for_event\('wait'\) lookback can't be read: 'soon'"),
        ({"lookback": -1}, r"wait_for_event\('wait'\) lookback must not be negative, got -1"),
        ({"event": []}, r"wait_for_event\('wait'\): give the name of an event, or several"),
        ({"event": ""}, r"wait_for_event\('wait'\).* 1 to 256 characters"),
        ({"event": [7]}, r"wait_for_event\('wait'\).* must be the name of an event, got int"),
        ({"match": "data.items[0]"}, r"wait_for_event\('wait'\) match must be a path into .*, but is 'data.items\[0\]'"),
        ({"match": "event.data.x == async.data.x"}, r"match must be a path into both events"),
        ({"match": ""}, r"match must be a path into both events"),
        ({"if_exp": "async.data.x >"}, r"wait_for_event\('wait'\) if_exp.*async\.data\.x >"),
        ({"if_exp": "other.x == 1"}, r"wait_for_event\('wait'\) if_exp.*other"),
        ({"timeout": "soon"}, r"wait_for_event\('wait'\) timeout can't be read: 'soon'"),
        ({"timeout": -1}, r"wait_for_event\('wait'\) timeout must not be negative, got -1"),
        ({"timeout": "367d"}, r"wait_for_event\('wait'\) timeout must be at most 1 year"),
    ],
)  # fmt: skip
async def test_a_wait_that_can_not_be_raises_in_the_handler(
    app: TaskFlow, arguments: dict[str, Any], text: str
) -> None:
    """S3.3"""
    caught: list[Exception] = []

    @app.function()
    async def wrong(ctx: Context[Step], step: Step) -> None:
        try:
            await step.wait_for_event("wait", **{"event": "paid", "timeout": "1h", **arguments})
        except (ConfigError, InvalidDuration, NonRetriableError) as error:
            caught.append(error)

    async with Harness(app) as harness:
        run = await harness.start(wrong)
        assert await run.astatus() == RunStatus.COMPLETED
    with pytest.raises(Exception, match=text):
        raise caught[0]


async def test_a_wait_that_can_not_be_fails_the_run_at_once(app: TaskFlow) -> None:
    """S3.3: trying again can't help."""
    calls: list[int] = []

    @app.function()
    async def wrong(ctx: Context[Step], step: Step) -> None:
        calls.append(1)
        await step.wait_for_event("wait", "paid", "1h", if_exp="async.data.x >")

    async with Harness(app) as harness:
        run = await harness.start(wrong)
        assert await run.astatus() == RunStatus.FAILED
        with pytest.raises(RunFailed, match="if_exp"):
            await run.aresult("1s")
    assert len(calls) == 1


async def test_a_wait_of_no_time_returns_none(app: TaskFlow) -> None:
    """S3.3"""
    waits = waiting_function(app, timeout=0)
    async with Harness(app) as harness:
        run = await harness.start(waits)
        assert await run.aresult("1s") is None
