"""Events: what `send` takes comes out of the message as it was; what it refuses is refused with InvalidEvent. Rule S1.5."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.errors import InvalidEvent, SerializationError
from taskflow.event import Event, ReceivedEvent, decode_message, encode_events
from taskflow.values.json import from_json, to_json
from tests.fuzz.profile import damaged, examples, json_objects, json_values, odd_values, texts, values

NOW_MS = 1_893_456_000_000
MAX_BYTES = 256 * 1024

names = st.one_of(st.just("shop/paid"), texts)


@examples(120)
@given(json_objects, st.none() | json_objects)
def test_json_comes_back_as_it_was(data: dict[str, Any], user: dict[str, Any] | None) -> None:
    ids, messages = encode_events("shop/paid", data, user=user, now_ms=NOW_MS, max_bytes=MAX_BYTES)
    (event,) = decode_message(messages[0])
    received = ReceivedEvent.from_wire(event)
    assert (received.id, received.data, received.user) == (ids[0], data, user)


@examples(300)
@given(
    names,
    st.one_of(json_objects, st.dictionaries(texts, odd_values, max_size=3), odd_values),
    st.one_of(st.none(), odd_values),
    st.one_of(st.none(), odd_values),
    st.one_of(st.none(), odd_values),
    st.one_of(st.none(), odd_values),
)
def test_any_event_is_encoded_or_refused(name: Any, data: Any, id: Any, ts: Any, user: Any, v: Any) -> None:
    try:
        _, messages = encode_events(
            Event(name, data, id=id, ts=ts, user=user, v=v), now_ms=NOW_MS, max_bytes=MAX_BYTES
        )
    except InvalidEvent:
        return
    (event,) = decode_message(messages[0])
    assert event["name"] == name


@examples(25)
@given(st.lists(st.builds(Event, st.just("shop/paid"), json_objects), max_size=250))
def test_a_list_of_events_keeps_its_order_in_its_messages(events: list[Event]) -> None:
    ids, messages = encode_events(events, now_ms=NOW_MS, max_bytes=MAX_BYTES)
    sent = [event for message in messages for event in decode_message(message)]
    assert [event["id"] for event in sent] == ids
    assert [event["data"] for event in sent] == [event.data for event in events]


@examples(300)
@given(odd_values)
def test_any_output_of_a_step_is_stored_or_refused(value: Any) -> None:
    """S2.6"""
    try:
        encoded = to_json(value, what="step 'x'")
    except SerializationError as error:
        assert "step 'x'" in str(error)
        return
    from_json(encoded)


@examples(100)
@given(json_values)
def test_json_is_stored_as_it_is(value: Any) -> None:
    assert from_json(to_json(value, what="step 'x'")) == value


WIRE = [
    {"uid": "01Q3DCBD0042RTK73KFTEN78P3", "id": "a", "name": "b", "data": {"c": [1, {"d": None}]}, "ts": 1, "due": 2,
     "user": {}, "v": "1"}
]  # fmt: skip


@examples(300)
@given(st.one_of(damaged(WIRE), values))
def test_any_json_of_a_message_is_read_or_refused(message: Any) -> None:
    try:
        body = orjson.dumps(message)
    except TypeError:  # a lone surrogate, say, which is no JSON
        return
    with contextlib.suppress(InvalidEvent):
        for event in decode_message(body):
            ReceivedEvent.from_wire(event)


@examples(300)
@given(st.one_of(st.binary(max_size=60), st.text('[]{}":,0123456789.eE+-\\ut nulfasr').map(str.encode)))
def test_any_bytes_of_a_message_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(InvalidEvent):
        decode_message(body)


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b"[" * 5_000 + b"]" * 5_000, b"9" * 100_000, b'{"a":' * 2_000],
    ids=["open", "deep", "long", "objects"],
)
def test_messages_that_exhaust_parsers_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidEvent):
        decode_message(body)
