"""S17.1: who publishes on a typed channel reaches everybody who watches it, once and in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from taskflow import (
    BlockingStep,
    Channel,
    Context,
    LimitExceeded,
    Message,
    SerializationError,
    Step,
    TaskFlow,
    Topic,
    TopicRef,
)
from taskflow.errors import ConfigError, ReaderTooSlow
from taskflow.realtime import feeds
from taskflow.testing import Harness
from tests.conftest import MakeApp
from tests.waiting import until


@dataclass
class Status:
    percent: int


class OrderChannel(Channel, name="order:{order_id}"):
    status = Topic(Status)
    log = Topic(str)


A1 = OrderChannel(order_id="A1")


class Subscriber:
    """Collects what it is told."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    @property
    def data(self) -> list[Any]:
        return [message.data for message in self.messages]

    async def has(self, count: int) -> None:
        await until(lambda: len(self.messages) >= count, description=f"{count} messages")


@asynccontextmanager
async def subscribed(app: TaskFlow, *args: Any, **options: Any) -> AsyncIterator[Subscriber]:
    """A subscriber that is told of what is published inside the block."""
    subscriber = Subscriber()

    async def read() -> None:
        async with aclosing(app.subscribe(*args, **options)) as messages:
            async for message in messages:
                subscriber.messages.append(message)

    known = app._link.feeds()
    task = asyncio.create_task(read())
    await until(
        lambda: any(feed.readers for feed in known.feeds.values()) or task.done(),
        description="the subscriber",
    )
    try:
        yield subscriber
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
async def open_app(app: TaskFlow) -> AsyncIterator[TaskFlow]:
    yield app
    await app.aclose()


async def test_a_subscriber_gets_messages_in_the_types_of_their_topics(open_app: TaskFlow) -> None:
    app = open_app
    async with subscribed(app, A1) as told:
        first = await app.apublish(A1.status, Status(10))
        await app.apublish(A1.log, "packed")
        await app.apublish(OrderChannel(order_id="B2").log, "of another order")
        await app.apublish(A1.status, Status(20))
        await told.has(3)
    assert told.data == [Status(10), "packed", Status(20)]
    assert [message.id for message in told.messages] == [first, first + 1, first + 2]
    assert {message.channel for message in told.messages} == {"order:A1"}
    assert [message.topic for message in told.messages] == ["status", "log", "status"]
    assert not any(message.is_after_gap or message.run_id for message in told.messages)


async def test_a_subscriber_of_some_topics_gets_no_others(open_app: TaskFlow) -> None:
    async with subscribed(open_app, A1, topics=[A1.log]) as told:
        await open_app.apublish(A1.status, Status(10))
        await open_app.apublish(A1.log, "packed")
        await told.has(1)
    assert told.data == ["packed"]


async def test_sync_code_publishes_too(app: TaskFlow) -> None:
    """From any thread."""
    async with aclosing(app.subscribe("plain", since="1m")) as messages:
        await asyncio.to_thread(app.publish, TopicRef[Any]("plain", "news"), {"n": 1})
        async with asyncio.timeout(5):
            message = await anext(messages)
    assert message.data == {"n": 1}
    await app.aclose()


async def test_who_comes_late_gets_what_is_kept_and_who_comes_back_goes_on(open_app: TaskFlow) -> None:
    app = open_app
    ids = [await app.apublish(A1.log, str(number)) for number in range(450)]
    async with subscribed(app, A1, since="5m") as late, subscribed(app, A1, after=ids[399]) as back:
        await app.apublish(A1.log, "new")
        await late.has(451)
        await back.has(51)
    assert late.data == [*map(str, range(450)), "new"]
    assert back.data == [*map(str, range(400, 450)), "new"]


async def test_what_is_no_longer_kept_is_told_as_a_gap(
    open_app: TaskFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskflow.store.messages.KEPT", 10)
    ids = [await open_app.apublish(A1.log, str(number)) for number in range(30)]
    async with (
        subscribed(open_app, A1, after=ids[4]) as gone,
        subscribed(open_app, A1, after=ids[24]) as there,
    ):
        await gone.has(10)
        await there.has(5)
    assert [message.is_after_gap for message in gone.messages] == [True] + 9 * [False]
    assert not any(message.is_after_gap for message in there.messages)


async def test_what_is_published_while_somebody_joins_comes_once(open_app: TaskFlow) -> None:
    """Wherever in the stream the reader changes over from what is kept to what comes."""
    app = open_app
    published: list[int] = []

    async def publish() -> None:
        for number in range(300):
            message_id = await app.apublish(A1.log, str(number))
            published.append(message_id)

    publishing = asyncio.create_task(publish())
    await until(lambda: len(published) > 20, description="the first messages")
    async with subscribed(app, A1, after=published[0] - 1) as told:
        await publishing
        await told.has(300)
    assert told.data == [*map(str, range(300))]


async def test_a_reader_that_does_not_read_is_dropped(
    open_app: TaskFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "MAX_BEHIND", 5)
    async with (
        subscribed(open_app, A1) as quick,
        aclosing(open_app.subscribe(A1, since="1m")) as messages,
    ):
        first = await open_app.apublish(A1.log, "0")
        assert (await anext(messages)).id == first
        for number in range(1, 9):
            await open_app.apublish(A1.log, str(number))
            await quick.has(number + 1)
        with pytest.raises(ReaderTooSlow, match="more than 5 messages behind"):
            await anext(messages)
    assert quick.data == [*map(str, range(9))]


async def test_two_readers_of_a_channel_share_one_feed_which_ends_with_the_last(open_app: TaskFlow) -> None:
    known = open_app._link.feeds()
    async with subscribed(open_app, A1):
        async with subscribed(open_app, A1):
            assert len(known.feeds) == 1
        assert list(known.feeds) == ["order:A1"]
    assert not known.feeds


async def test_messages_of_another_type_and_too_large_ones_are_refused(make_app: MakeApp) -> None:
    app = make_app(max_event_bytes=100)
    with pytest.raises(SerializationError, match="a message for order:A1, status is no Status"):
        await app.apublish(A1.status, "half")  # type: ignore[misc]
    with pytest.raises(LimitExceeded, match="102 bytes of JSON, but at most 100"):
        await app.apublish(A1.log, "x" * 100)
    await app.aclose()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: OrderChannel(), "takes order_id, got none"),
        (lambda: OrderChannel(order_id="A1", colour="red"), "takes order_id, got order_id, colour"),
        (lambda: OrderChannel(order_id=""), "order_id must be a str or an int"),
        (lambda: OrderChannel(order_id="a b"), "without blanks"),
        (lambda: TopicRef("x" * 257, "status"), "1 to 256 characters"),
        (lambda: type("Twice", (Channel,), {}, name="a:{x}:{x}"), "different words"),
    ],
)
def test_a_channel_that_can_not_be_is_refused(make: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make()


async def test_a_topic_that_the_channel_does_not_have_is_refused(app: TaskFlow) -> None:
    with pytest.raises(ConfigError, match="has no topic 'statos'; did you mean 'status'"):
        await anext(app.subscribe(A1, topics=["statos"]))


# --- in runs ---


async def test_a_handler_publishes_once_in_live_code_and_is_silent_in_replay(app: TaskFlow) -> None:
    @app.function()
    async def work(ctx: Context[Step], step: Step) -> None:
        await ctx.publish(A1.log, "begins")
        await step.run("one", lambda: 1)
        await ctx.publish(A1.log, "after one")
        await step.sleep("nap", "1h")
        await ctx.publish(A1.log, "after the nap")

    async with Harness(app) as harness, subscribed(app, A1) as told:
        run = await harness.start(work)
        await harness.advance(hours=1)
        await told.has(3)
        assert told.data == ["begins", "after one", "after the nap"]
        assert {message.run_id for message in told.messages} == {run.id}


async def test_steps_and_sync_handlers_publish_while_they_block(app: TaskFlow) -> None:
    @app.function()
    def work(ctx: Context[BlockingStep], step: BlockingStep) -> None:
        def count() -> None:
            ctx.publish(A1.log, "in a step")

        ctx.publish(A1.log, "in the handler")
        step.run("count", count)
        step.publish("tell", A1.status, Status(100))

    async with Harness(app) as harness, subscribed(app, A1) as told:
        await harness.start(work)
        await told.has(3)
        assert told.data == ["in the handler", "in a step", Status(100)]


async def test_a_step_publishes_once_though_it_is_tried_again(
    app: TaskFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the process dies after the message went out and before the step is stored."""
    calls: list[str] = []
    publish = app._apublish_of_run

    async def publish_and_die(*args: Any, **options: Any) -> None:
        await publish(*args, **options)
        calls.append(options["uid"])
        if len(calls) < 3:
            raise ConnectionError("the process died")

    monkeypatch.setattr(app, "_apublish_of_run", publish_and_die)

    @app.function(retries=3)
    async def work(ctx: Context[Step], step: Step) -> None:
        await step.publish("tell", A1.log, "once")

    async with Harness(app) as harness, subscribed(app, A1) as told:
        run = await harness.start(work)
        await harness.advance(hours=1)
        await run.aresult(timeout=5)
        await app.apublish(A1.log, "the end")
        await told.has(2)
        assert len(calls) == 3
        assert told.data == ["once", "the end"]
        assert (await run.aview()).steps["tell"].kind == "publish"


def test_a_message_as_json_has_a_text_for_its_id() -> None:
    """Browsers read no integers above 2 to the 53rd."""
    message = Message(1_700_000_000_000_001, "order:A1", "log", "packed", 5)
    assert json.dumps(message.to_json()) == (
        '{"id": "1700000000000001", "channel": "order:A1", "topic": "log", "data": "packed", "at_ms": 5, "run_id": null, '
        '"is_after_gap": false}'
    )
