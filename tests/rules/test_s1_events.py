"""S1: what an event is, how it is sent, and what it starts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import BrokerUnavailable, ConfigError, InvalidEvent, RunNotFound
from taskflow.event import Event, ReceivedEvent
from taskflow.handle import RunStatus
from taskflow.ids import is_ulid, ulid_ms
from taskflow.step import Step
from taskflow.testing import Harness
from tests.conftest import MakeApp
from tests.servers import ValkeyServer, free_port

HOUR_MS = 3_600_000


def record(app: TaskFlow, *events: str) -> list[ReceivedEvent]:
    """Registers a function `seen`, and returns the list of events that it will have got."""
    got: list[ReceivedEvent] = []

    @app.function(trigger=list(events))
    async def seen(ctx: Context[Step]) -> None:
        got.append(ctx.event)

    return got


async def stored_events(harness: Harness) -> list[dict[str, bytes]]:
    """The records of all events, in the order of their arrival."""
    uids = await harness.store.client.call("ZRANGE", harness.store.keys.events, 0, -1)
    return [await harness.store.history.event(uid.decode()) for uid in uids]


# --- S1.1 ---


async def test_an_event_has_its_fields_and_their_defaults(app: TaskFlow) -> None:
    """S1.1"""
    got = record(app, "plain", "full")
    async with Harness(app) as harness:
        now_ms = harness.clock.now_ms()
        (plain_id,) = await harness.send("plain")
        await harness.send(
            Event("full", {"n": [1, {"x": None}]}, id="order-7", ts=1_700_000_000_000, user={"id": 3}, v="2")
        )
    plain, full = got
    assert plain == ReceivedEvent(plain_id, plain_id, "plain", {}, now_ms)
    assert is_ulid(plain.uid)
    assert ulid_ms(plain.uid) == now_ms
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


# --- S1.2 ---


async def test_send_returns_the_ids_in_order(app: TaskFlow) -> None:
    """S1.2"""
    got = record(app, "a", "b")
    events = [Event("a", {"n": 0}), Event("b", {"n": 1}, id="mine"), Event("a", {"n": 2})]
    async with Harness(app) as harness:
        ids = await asyncio.to_thread(app.send, events)
        ids += await app.asend(events[0])
        ids += await app.asend("b", {"n": 1})
        await harness.settled()
    assert ids[1] == "mine"
    assert len(set(ids)) == 5
    assert sorted((event.id, event.data["n"]) for event in got) == sorted(
        zip(ids, (0, 1, 2, 0, 1), strict=True)
    )


async def test_5000_events_go_in_one_call_and_5001_do_not(app: TaskFlow) -> None:
    """S1.2"""
    async with Harness(app) as harness:
        ids = await harness.send([Event("nobody/listens")] * 5_000)
        assert len(set(ids)) == 5_000
        assert len(await stored_events(harness)) == 5_000
        with pytest.raises(
            ConfigError, match=r"at most 5,000 events at a time, but got 5,001: send them in parts"
        ):
            await app.asend([Event("nobody/listens")] * 5_001)
        await harness.settled()
        assert len(await stored_events(harness)) == 5_000


async def test_an_empty_list_sends_nothing(app: TaskFlow) -> None:
    """S1.2"""
    async with Harness(app) as harness:
        assert await harness.send([]) == []
        assert await asyncio.to_thread(app.send, []) == []
        assert await stored_events(harness) == []


async def test_an_event_object_takes_no_further_arguments(app: TaskFlow) -> None:
    """S1.2"""
    with pytest.raises(TypeError, match="they are fields of Event"):
        app.send(Event("a"), {"n": 1})  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="they are fields of Event"):
        await app.asend([Event("a")], id="x")  # type: ignore[call-overload]


async def test_sends_from_many_threads_at_once_all_arrive(app: TaskFlow) -> None:
    """S1.2"""
    got = record(app, "from thread")
    async with Harness(app) as harness:
        await asyncio.gather(*[asyncio.to_thread(app.send, "from thread", {"n": n}) for n in range(20)])
        await harness.settled()
    assert sorted(event.data["n"] for event in got) == list(range(20))


@dataclass
class Unreachable:
    """A broker that takes nothing, and how it fails."""

    url: str
    how: str


@pytest.fixture(params=["refuses", "hangs"])
def unreachable(request: pytest.FixtureRequest) -> Iterator[Unreachable]:
    if request.param == "refuses":
        yield Unreachable(f"redis://127.0.0.1:{free_port()}/0", "refuses")
        return
    with ValkeyServer() as server:
        server.pause()
        yield Unreachable(server.url, "hangs")
        server.resume()


async def test_send_raises_within_its_timeout_when_the_broker_takes_nothing(unreachable: Unreachable) -> None:
    """S1.2"""
    app = TaskFlow("shop", broker=unreachable.url, send_timeout="500ms")
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="127.0.0.1"):
        await asyncio.to_thread(app.send, "a")
    assert time.monotonic() - began < 1.5
    await app.aclose()


async def test_asend_raises_within_its_timeout_and_never_blocks_the_loop(unreachable: Unreachable) -> None:
    """S1.2"""
    app = TaskFlow("shop", broker=unreachable.url, send_timeout="500ms")
    longest_s, last_s, is_sending = 0.0, time.monotonic(), True

    async def watch() -> None:
        nonlocal longest_s, last_s
        while is_sending:
            await asyncio.sleep(0.005)
            now_s = time.monotonic()
            longest_s, last_s = max(longest_s, now_s - last_s), now_s

    watching = asyncio.create_task(watch())
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        await app.asend("a")
    assert time.monotonic() - began < 1.5
    is_sending = False
    await watching
    assert longest_s < 0.25
    await app.aclose()


async def test_the_error_of_a_send_hides_the_password() -> None:
    """S1.2"""
    app = TaskFlow("shop", broker=f"redis://me:hunter2@127.0.0.1:{free_port()}/0", send_timeout="100ms")
    with pytest.raises(BrokerUnavailable) as caught:
        await app.asend("a")
    assert "hunter2" not in str(caught.value)
    await app.aclose()


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


async def test_an_id_deduplicates_whatever_the_name_of_the_event(app: TaskFlow) -> None:
    """S1.3"""
    got = record(app, "paid", "refunded")
    async with Harness(app) as harness:
        await harness.send("paid", id="order-7")
        await harness.send("refunded", id="order-7")
    assert [event.name for event in got] == ["paid"]


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
        await harness.send("late", ts=0)
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


# --- S1.5 ---


def event_of(size: int) -> Event:
    """An event whose JSON has about `size` bytes."""
    return Event("big", {"text": "x" * size})


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Event("e" * 257), "must have 1 to 256 characters, got 257: 'eeee"),
        (lambda: Event(""), "must have 1 to 256 characters, got 0"),
        (lambda: Event(7), "the name of an event must be a str, got int"),  # type: ignore[arg-type]
        (lambda: Event("a", [1]), r"event 'a': data must be a JSON object \(dict\), got list; wrap it"),  # type: ignore[arg-type]
        (lambda: Event("a", "x"), r"event 'a': data must be a JSON object \(dict\), got str; wrap it"),  # type: ignore[arg-type]
        (lambda: Event("a", {"x": {1, 2}}), r"event 'a' has no JSON form: \$\.data\.x is a set; turn it into a sorted list"),
        (lambda: Event("a", {"x": object()}), r"event 'a' has no JSON form: \$\.data\.x is a object"),
        (lambda: Event("a", {"x": float("nan")}), r"\$\.data\.x is nan, which JSON can't express"),
        (lambda: Event("a", {1: 2}), "a dict with a key of type int"),  # type: ignore[dict-item]
        (lambda: Event("a", {"x": 1 << 70}), "is an int beyond 64 bits"),
        (lambda: Event("taskflow/x"), "'taskflow/x': names that start with 'taskflow/' are reserved; choose another name"),
        (lambda: Event("a", id=""), "id must be a str of 1 to 256 characters, got 0 characters"),
        (lambda: Event("a", id="i" * 257), "id must be a str of 1 to 256 characters, got 257 characters"),
        (lambda: Event("a", ts=-1), "ts must be an int of ms since the epoch, got int -1"),
        (lambda: Event("a", ts=1.5), "ts must be an int of ms since the epoch, got float 1.5"),  # type: ignore[arg-type]
        (lambda: Event("a", user=[]), r"user must be a JSON object \(dict\) or None, got list"),  # type: ignore[arg-type]
        (lambda: Event("a", v="v" * 65), "v must be a str of 1 to 64 characters, got 65 characters"),
        (lambda: event_of(262_145), r"event 'big' has 262,2\d\d bytes of JSON, but max_event_bytes allows 262,144\."),
    ],
)  # fmt: skip
async def test_an_invalid_event_raises_in_the_sender_and_nothing_is_published(
    app: TaskFlow, make: Any, text: str
) -> None:
    """S1.5"""
    got = record(app, "a", "before")
    async with Harness(app) as harness:
        with pytest.raises(InvalidEvent, match=text):
            await app.asend([Event("before"), make()])
        with pytest.raises(InvalidEvent, match=text):
            app.send([Event("before"), make()])
        await harness.settled()
        assert got == []
        assert await stored_events(harness) == []


async def test_max_event_bytes_is_met_exactly(make_app: MakeApp) -> None:
    """S1.5"""
    app = make_app(max_event_bytes=1_000)
    got = record(app, "big")
    async with Harness(app) as harness:
        await harness.send(Event("big"))
        rest = 1_000 - len(orjson.dumps(orjson.loads((await stored_events(harness))[0]["event"])))
        fits = rest - len('"text":""')
        await harness.send(event_of(fits))
        with pytest.raises(InvalidEvent, match="1,001 bytes of JSON, but max_event_bytes allows 1,000"):
            await app.asend(event_of(fits + 1))
    assert len(got) == 2


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
        ids, messages = app.encode(
            [Event("paid", {"n": n}) for n in range(5)], None, id=None, ts=None, user=None, v=None
        )
        await asyncio.gather(*[app.async_publisher.publish_events(messages) for _ in range(4)])
        await harness.settled()
        assert sorted(started) == list(range(5))
        waiting = await harness.start(waits)
        await harness.advance(hours=2)  # the runs are over
        await app.async_publisher.publish_events(messages)
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
