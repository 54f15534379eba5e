"""Whatever lies in the broker's queues: good events beside it are routed, and what can't be read is kept. Rules S9.1, S9.2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.app import TaskFlow
from taskflow.broker.deadline import Deadline
from taskflow.broker.publisher import Letter
from taskflow.broker.session import OutgoingMessage
from taskflow.broker.topology import Topology
from taskflow.context import Context
from taskflow.errors import InvalidEvent
from taskflow.event import Event, decode_message, encode_event
from taskflow.flow.rate_limit import RateLimit
from taskflow.step import Step
from taskflow.testing import SyncHarness
from taskflow.triggers import TriggerEvent
from taskflow.values.ids import new_ulid
from tests.fuzz.profile import damaged, examples, values

NAME = "fuzz/known"


@dataclass
class Factory:
    """A worker that listens, and what its function has got."""

    harness: SyncHarness
    app: TaskFlow
    got: list[Any] = field(default_factory=list)

    def publish(self, bodies: list[bytes]) -> None:
        self.app._link.publisher.publish_events(bodies)
        self.harness.settled()

    def dead_letters(self) -> int:
        harness = self.harness._harness
        return int(
            self.harness._block_on(
                lambda: count(harness.store.client.call("XLEN", harness.store.keys.dead_letters))
            )
        )


async def count(reply: Any) -> int:
    return int(await reply)


@pytest.fixture(scope="module")
def factory() -> Iterator[Factory]:
    app = TaskFlow("fuzz", broker="redis://127.0.0.1:1/0", store="redis://127.0.0.1:1/0")
    got: list[Any] = []

    @app.function(trigger=NAME, retries=0)
    async def note(ctx: Context[Step]) -> None:
        got.append(ctx.event.data.get("number"))

    # What looks into events while it routes them.
    @app.function(trigger=TriggerEvent("fuzz/*", "event.data.c.size() > 1 && event.user.id == 1"), retries=0)
    async def picky(ctx: Context[Step]) -> None: ...

    @app.function(trigger="fuzz/*", rate_limit=RateLimit(1, "1h", key="event.data.c"), retries=0)
    async def limited(ctx: Context[Step]) -> None: ...

    @app.function(trigger=NAME, retries=0)
    async def waits(ctx: Context[Step], step: Step) -> None:
        await step.wait_for_event(
            "wait", "fuzz/*", timeout="1s", match="data.c", if_exp="async.data.c != event.ts"
        )

    with SyncHarness(app, servers="embedded") as harness:
        yield Factory(harness, app, got)


def wire(number: int | None = None) -> dict[str, Any]:
    """A good event."""
    _, body = encode_event(
        Event(NAME, {"number": number}), now_ms=1_893_456_000_000, max_bytes=1 << 20, uid=new_ulid()
    )
    event: dict[str, Any] = orjson.loads(body)
    return event


def odd_events() -> st.SearchStrategy[Any]:
    good = {
        "id": "a",
        "name": NAME,
        "data": {"c": [1, {"d": None}]},
        "ts": 1,
        "due": 2,
        "user": {"id": 1},
        "v": "1",
    }
    return damaged(good).map(lambda event: {"uid": new_ulid(), **event} if isinstance(event, dict) else event)


def as_body(events: Any) -> bytes:
    try:
        return orjson.dumps(events)
    except TypeError:
        return repr(events).encode(errors="replace")


bodies = st.one_of(
    st.binary(max_size=40),
    values.map(as_body),
    st.lists(odd_events(), max_size=3).map(as_body),
    st.sampled_from(
        [b"", b"[]", b"[[]]", b"[" * 10_000, b"\xff\xfe", b'[{"uid":null}]', b"null", b"NaN", b"\x00" * 100]
    ),
)


def is_readable(body: bytes) -> bool:
    try:
        decode_message(body)
    except InvalidEvent:
        return False
    return True


@examples(120)
@given(st.lists(bodies, min_size=1, max_size=6), st.data())
def test_no_message_harms_its_neighbours(factory: Factory, odd: list[bytes], data: st.DataObject) -> None:
    factory.got.clear()
    dead_before = factory.dead_letters()
    neighbours = [as_body([wire(number)]) for number in range(3)]
    places = sorted(data.draw(st.integers(0, len(odd)), label="where") for _ in neighbours)
    queue = list(odd)
    for place, body in zip(reversed(places), reversed(neighbours), strict=True):
        queue.insert(place, body)
    factory.publish(queue)
    assert sorted(each for each in factory.got if each is not None) == [0, 1, 2]
    unreadable = sum(not is_readable(body) for body in odd)
    assert factory.dead_letters() - dead_before >= unreadable


@examples(60)
@given(odd_events())
def test_what_can_be_read_can_be_routed(factory: Factory, event: Any) -> None:
    """A message that decodes is no dead letter: the router has no limits of its own."""
    body = as_body([event])
    if not is_readable(body):
        return
    before = factory.dead_letters()
    factory.publish([body])
    assert factory.dead_letters() == before


@examples(60)
@given(st.one_of(st.binary(max_size=40), values.map(as_body), st.just(b'{"queue": "other"}')))
def test_odd_work_messages_are_kept_and_the_worker_goes_on(factory: Factory, body: bytes) -> None:
    queue = Topology(factory.app.config.namespace).work_queue("fuzz", "default")
    message = OutgoingMessage(queue.exchange, queue.routing_key, body, persistent=False)
    before = factory.dead_letters()
    factory.app._link.publisher.send(Letter([message]), Deadline(3))
    factory.harness.settled()
    assert factory.dead_letters() == before + 1
    factory.got.clear()
    factory.publish([as_body([wire(7)])])
    assert factory.got == [7]
