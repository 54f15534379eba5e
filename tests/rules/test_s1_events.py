"""S1: what an event is, when it is a duplicate, when it starts runs, and which."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import ConfigError, EventNotFound, InvalidDuration, RunNotFound
from taskflow.event import Event, ReceivedEvent, encode_events
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing import Harness
from taskflow.values.ids import is_ulid, ulid_ms
from tests.conftest import MakeApp
from tests.rules.givens import HOUR_MS, record

pytestmark = pytest.mark.usefixtures("no_bugs")


async def stored_events(harness: Harness) -> list[dict[str, bytes]]:
    """The records of all events, in the order of their arrival."""
    uids = await harness.store.history.recent_events(limit=10_000)
    return [await harness.store.history.event(uid) for uid in reversed(uids)]


# --- S1.1 ---


async def test_an_event_has_its_fields_and_their_defaults(app: TaskFlow) -> None:
    """S1.1"""
    got = record(app, ["plain", "full"])
    async with Harness(app) as harness:
        now_ms = harness.clock.now_ms()
        (plain_id,) = await harness.send("plain")
        await harness.send(
            Event("full", {"n": [1, {"x": None}]}, id="order-7", ts=1_700_000_000_000, user={"id": 3}, v="2")
        )
    plain, full = got
    assert plain == ReceivedEvent(plain_id, plain_id, "plain", {}, now_ms)
    assert is_ulid(plain.uid)
    assert ulid_ms(plain.uid) >= now_ms  # never before an id that this process made already
    assert full == ReceivedEvent(
        full.uid, "order-7", "full", {"n": [1, {"x": None}]}, 1_700_000_000_000, {"id": 3}, "2"
    )
    assert is_ulid(full.uid)


@pytest.mark.parametrize("name", ["e", "e" * 256, "shop/Ordre.créé ✓ 日本"], ids=["1", "256", "unicode"])
async def test_names_of_1_to_256_characters_are_routed(app: TaskFlow, name: str) -> None:
    """S1.1"""
    got = record(app, name)
    async with Harness(app) as harness:
        await harness.send(name, {"ok": True})
    assert [(event.name, event.data) for event in got] == [(name, {"ok": True})]


# --- S1.3 ---


async def test_a_second_event_with_the_same_id_is_recorded_and_triggers_nothing(app: TaskFlow) -> None:
    """S1.3"""
    got = record(app, "paid")
    resumed = []

    @app.function()
    async def waits(ctx: Context[Step], step: Step) -> None:
        resumed.append(await step.wait_for_event("paid", "paid", timeout="1h"))

    async with Harness(app) as harness:
        await harness.send("paid", {"n": 1}, id="order-7")
        run = await harness.start(waits)
        await harness.send("paid", {"n": 2}, id="order-7")
        first, _, second = await stored_events(harness)
        assert [event.data for event in got] == [{"n": 1}]
        assert resumed == []
        assert "duplicate_of" not in first
        assert second["duplicate_of"].decode() == orjson.loads(first["event"])["uid"]
        assert orjson.loads(second["event"])["data"] == {"n": 2}
        await run.acancel()


async def test_events_of_several_names_may_have_one_id(app: TaskFlow) -> None:
    """S1.3: what happened to order 42 is no duplicate of order 42."""
    got = record(app, ["order.created", "order.paid"])
    async with Harness(app) as harness:
        for name in ("order.created", "order.paid", "order.created"):
            await harness.send(name, id="42")
            harness.clock.advance(ms=1)
        views = [await app.event("42", name=name).aview() for name in ("order.created", "order.paid")]
        newest = await app.event("42").aview()
        with pytest.raises(EventNotFound, match="no event 42 of the name 'order.gone'"):
            await app.event("42", name="order.gone").aview()
    assert [event.name for event in got] == ["order.created", "order.paid"]
    assert [view.name for view in views] == ["order.created", "order.paid"]
    assert newest == views[1]


async def test_an_id_deduplicates_for_24_hours(app: TaskFlow) -> None:
    """S1.3"""
    got = record(app, "paid")
    async with Harness(app) as harness:
        await harness.send("paid", {"n": 1}, id="order-7")
        await harness.advance(hours=23, minutes=59, seconds=59)
        await harness.send("paid", {"n": 2}, id="order-7")
        assert [event.data["n"] for event in got] == [1]
        await harness.advance(seconds=1)
        await harness.send("paid", {"n": 3}, id="order-7")
        assert [event.data["n"] for event in got] == [1, 3]
        await harness.send("paid", {"n": 4}, id="order-7")
    assert [event.data["n"] for event in got] == [1, 3]


async def test_duplicates_in_one_call_start_one_run(app: TaskFlow) -> None:
    """S1.3"""
    got = record(app, "paid")
    async with Harness(app, workers=2) as harness:
        ids = await harness.send([Event("paid", {"n": n}, id=f"order-{n % 3}") for n in range(30)])
        assert ids == [f"order-{n % 3}" for n in range(30)]
        assert len(await stored_events(harness)) == 30
    assert sorted(event.id for event in got) == ["order-0", "order-1", "order-2"]


# --- S1.4 ---


async def test_a_ts_in_the_future_delays_the_runs_that_the_event_starts(app: TaskFlow) -> None:
    """S1.4"""

    @app.function(trigger="greet")
    async def greet(ctx: Context[Step]) -> int:
        return ctx.event.ts

    async with Harness(app) as harness:
        ts = harness.clock.now_ms() + 36 * HOUR_MS
        (event_id,) = await harness.send("greet", ts=ts)
        run = await harness.run_of(greet, event_id)
        assert await run.astatus() == RunStatus.SCHEDULED
        assert harness.slots_in_use == 0
        await harness.advance(ms=36 * HOUR_MS - 1)
        assert await run.astatus() == RunStatus.SCHEDULED
        await harness.advance(ms=1)
        assert await run.aresult("1s") == ts
        assert (await harness.view(run)).started_ms == ts


async def test_a_ts_in_the_past_delays_nothing(app: TaskFlow) -> None:
    """S1.4"""
    got = record(app, "late")
    async with Harness(app) as harness:
        await harness.send("late", ts=harness.clock.now_ms() - 5 * HOUR_MS)
        await harness.send("late", ts=1_000_000_000_000)
        await harness.send("late", ts=harness.clock.now_ms())
        assert len(got) == 3


async def test_a_ts_in_the_future_does_not_delay_a_wait(app: TaskFlow) -> None:
    """S1.4"""

    @app.function()
    async def waits(ctx: Context[Step], step: Step) -> Any:
        event = await step.wait_for_event("paid", "paid", timeout="1h")
        return event and event.ts

    got = record(app, "paid")
    async with Harness(app) as harness:
        run = await harness.start(waits)
        ts = harness.clock.now_ms() + 36 * HOUR_MS
        await harness.send("paid", ts=ts)
        assert await run.aresult("1s") == ts
        assert got == []
        await harness.advance(hours=36)
        assert len(got) == 1


# --- S1.6 ---


async def test_every_app_that_listens_gets_its_own_copy(make_app: MakeApp) -> None:
    """S1.6"""
    shop, risk, mail = make_app("shop"), make_app("risk"), make_app("mail")
    got = [record(app, "paid") for app in (shop, risk, mail)]
    async with Harness(shop, risk, mail) as harness:
        (event_id,) = await harness.send("paid", {"n": 1}, app=risk)
        (other_id,) = await harness.send("paid", {"n": 2}, id="explicit", app=shop)
        await harness.send("paid", {"n": 3}, id="explicit", app=mail)
    assert [[event.id for event in each] for each in got] == [[event_id, other_id]] * 3


async def test_an_app_that_sends_needs_no_functions_and_no_worker(make_app: MakeApp) -> None:
    """S1.6"""
    web, shop = make_app("web"), make_app("shop")
    got = record(shop, "paid")
    async with Harness(shop) as harness:
        await web.asend("paid", {"n": 1})
        await harness.settled()
    assert [event.data for event in got] == [{"n": 1}]


async def test_an_event_starts_every_function_that_it_meets_once(app: TaskFlow) -> None:
    """S1.6"""
    got = [record(app, "paid")]
    started: list[str] = []

    @app.function(trigger=["paid", "pai*", "p*"])
    async def thrice_triggered(ctx: Context[Step]) -> None:
        started.append(ctx.run_id)

    async with Harness(app) as harness:
        await harness.send("paid")
    assert len(got[0]) == 1
    assert len(started) == 1


async def test_a_message_that_comes_again_starts_no_second_run(app: TaskFlow) -> None:
    """S1.6, S1.1: a retry of an ambiguous send publishes the same message."""
    started: list[int] = []
    resumed: list[Any] = []

    @app.function(trigger="paid")
    async def receipt(ctx: Context[Step], step: Step) -> None:
        await step.run("count", started.append, ctx.event.data["n"])
        await step.sleep("then", "1h")

    @app.function()
    async def waits(ctx: Context[Step], step: Step) -> None:
        resumed.append(await step.wait_for_event("paid", "paid", timeout="1d"))

    async with Harness(app, workers=2) as harness:
        ids, messages = encode_events(
            [Event("paid", {"n": n}) for n in range(5)], now_ms=harness.clock.now_ms(), max_bytes=10_000
        )
        await asyncio.gather(*[app._link.async_publisher.publish_events(messages) for _ in range(4)])
        await harness.settled()
        assert sorted(started) == list(range(5))
        waiting = await harness.start(waits)
        await harness.advance(hours=2)  # the runs are over
        await app._link.async_publisher.publish_events(messages)
        await harness.settled()
        runs = [await harness.run_of(receipt, event_id) for event_id in ids]
        assert {await run.astatus() for run in runs} == {RunStatus.COMPLETED}
        assert len(await harness.runs(receipt)) == 5
        assert resumed == []  # the events came before the wait, however late their copies
        assert sum("duplicate_of" in event for event in await stored_events(harness)) == 0
        await waiting.acancel()
    assert sorted(started) == list(range(5))


async def test_an_event_that_nothing_listens_to_is_recorded_and_starts_nothing(app: TaskFlow) -> None:
    """S1.6"""
    record(app, "paid")
    async with Harness(app) as harness:
        (event_id,) = await harness.send("unheard")
        assert (await harness.store.history.event(event_id))["name"] == b"unheard"
        with pytest.raises(RunNotFound):
            await harness.run_of(app.functions["shop/seen"], event_id)


async def test_what_a_handler_does_to_its_event_no_other_function_sees(app: TaskFlow) -> None:
    """S1.6"""
    seen: list[dict[str, Any]] = []

    async def spoil(ctx: Context[Step]) -> None:
        seen.append(dict(ctx.event.data))
        ctx.event.data["n"] = "spoilt"

    for name in ("first", "second"):
        app.function(id=name, trigger="shop/paid")(spoil)
    async with Harness(app) as harness:
        await harness.send("shop/paid", {"n": 1})
    assert seen == [{"n": 1}, {"n": 1}]


# --- S1.4: a run that is invoked for later ---


@pytest.mark.parametrize("option", ["delay", "at"])
async def test_an_invoke_may_be_for_later(app: TaskFlow, option: str) -> None:
    """S1.4: no worker holds it meanwhile."""

    @app.function()
    async def work(ctx: Context[Step]) -> int:
        return 7

    async with Harness(app) as harness:
        at = datetime.fromtimestamp(harness.clock.now_ms() / 1000, UTC) + timedelta(days=2)
        run = await (work.ainvoke(delay="2 days") if option == "delay" else work.ainvoke(at=at))
        await harness.advance(hours=47)
        assert await run.astatus() is RunStatus.SCHEDULED
        await harness.advance(hours=1)
        assert await run.aresult("1s") == 7
        past = await (work.ainvoke(delay=0) if option == "delay" else work.ainvoke(at="2001-01-01T00:00:00Z"))
        assert await past.aresult("1s") == 7


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"delay": "1h", "at": "2030-01-01T00:00:00Z"}, "delay=... or at=..., not both"),
        ({"delay": -1}, "delay must not be negative"),
        ({"delay": "soon"}, "delay can't be read: 'soon'"),
        ({"at": datetime(2030, 1, 1)}, "at has no time zone"),
        ({"at": "2100-01-01T00:00:00Z"}, "at must be at most 1 year"),
    ],
)
async def test_a_time_that_an_invoke_can_not_have_is_refused(
    app: TaskFlow, options: Any, problem: str
) -> None:
    """S1.4"""

    @app.function()
    async def work(ctx: Context[Step]) -> None: ...

    async with Harness(app):
        with pytest.raises((ConfigError, InvalidDuration), match=problem):
            await work.ainvoke({}, **options)
