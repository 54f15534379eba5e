"""S1.2, S1.5: what senders get, and what is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from taskflow.app import TaskFlow
from taskflow.errors import BrokerUnavailable, ConfigError, InvalidEvent
from taskflow.event import Event
from taskflow.testing import Harness
from tests.conftest import MakeApp
from tests.rules.givens import record
from tests.servers import ValkeyServer, free_port

pytestmark = pytest.mark.usefixtures("no_bugs")


async def stored_events(harness: Harness) -> list[dict[str, bytes]]:
    """The records of all events, in the order of their arrival."""
    uids = await harness.store.history.recent_events(limit=10_000)
    return [await harness.store.history.event(uid) for uid in reversed(uids)]


# --- S1.2 ---


async def test_send_returns_the_ids_in_order(app: TaskFlow) -> None:
    """S1.2"""
    got = record(app, ["a", "b"])
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
        app.send(Event("a"), {"n": 1})
    with pytest.raises(TypeError, match="they are fields of Event"):
        await app.asend([Event("a")], id="x")


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
    got = record(app, ["a", "before"])
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
