import time
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.errors import InvalidEvent
from taskflow.event import MAX_TS_MS, Event, ReceivedEvent, decode_message, encode_event
from taskflow.values.ids import ulid_ms

NOW_MS = 1_700_000_000_000
UID = "01HF7YAT00" + "0" * 16
DUE_MS = 1_700_000_000_005
WIRE = {"uid": UID, "id": "order-1", "name": "shop/paid", "data": {"n": 1}, "ts": NOW_MS}


def encode(
    event: Event, *, max_bytes: int = 1_000, uid: str | None = None, internal: bool = False
) -> tuple[str, Any]:
    public_id, encoded = encode_event(event, now_ms=NOW_MS, max_bytes=max_bytes, uid=uid, internal=internal)
    return public_id, orjson.loads(encoded)


def test_an_event_gets_a_ulid_and_the_time_before_it_is_sent() -> None:
    public_id, wire = encode(Event("shop/paid"))
    assert wire == {"uid": public_id, "id": public_id, "name": "shop/paid", "data": {}, "ts": NOW_MS}
    assert ulid_ms(public_id) == NOW_MS


def test_what_the_sender_chooses_is_kept() -> None:
    event = Event(name="shop/paid", data={"n": 1}, id="order-1", ts=DUE_MS, user={"id": 7}, v="2")
    assert encode(event, uid=UID) == (
        "order-1",
        WIRE | {"ts": DUE_MS, "due": DUE_MS, "user": {"id": 7}, "v": "2"},
    )


def test_data_is_converted_at_the_border() -> None:
    when = datetime(2030, 1, 1, tzinfo=UTC)
    _, wire = encode(Event("shop/paid", {"when": when, "total": Decimal("9.50"), "pair": (1, 2)}))
    assert wire["data"] == {"when": "2030-01-01T00:00:00+00:00", "total": "9.50", "pair": [1, 2]}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": ""}, r"must have 1 to 256 characters, got 0: ''"),
        ({"name": "x" * 257}, r"must have 1 to 256 characters, got 257: 'xxx"),
        ({"name": 5}, r"must be a str, got int"),
        ({"data": [1]}, r"data must be a JSON object \(dict\), got list; wrap it"),
        ({"data": None}, r"got NoneType"),
        ({"id": ""}, r"id must be a str of 1 to 256 characters, got 0 characters"),
        ({"id": 5}, r"got int 5"),
        ({"id": "x" * 257}, r"got 257 characters"),
        ({"ts": -1}, r"ts must be an int of ms since the epoch, got int -1"),
        ({"ts": 1.5}, r"got float 1\.5"),
        ({"ts": 0}, r"got int 0"),
        ({"ts": 1_790_000_000}, r"got int 1790000000, which looks like seconds"),
        ({"ts": time.time()}, r"which looks like seconds"),
        ({"ts": True}, r"got bool True"),
        ({"ts": MAX_TS_MS + 1}, r"ts must be"),
        ({"ts": datetime(2030, 1, 1, tzinfo=UTC)}, r"int\(when\.timestamp\(\) \* 1000\)"),
        ({"user": "me"}, r"user must be a JSON object \(dict\) or None, got str"),
        ({"v": 2}, r"v must be a str of 1 to 64 characters, got int 2"),
    ],
)
def test_an_event_that_breaks_a_limit_can_not_be_made(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidEvent, match=reason):
        Event(**({"name": "shop/paid"} | fields))


def test_an_event_with_the_longest_name_is_sent() -> None:
    assert encode(Event("x" * 256))[1]["name"] == "x" * 256


def test_an_event_may_have_the_size_limit_but_not_a_byte_more() -> None:
    event = Event("shop/paid", {"text": "ä" * 50}, id="i")
    _, encoded = encode_event(event, now_ms=NOW_MS, max_bytes=10_000)
    assert encode_event(event, now_ms=NOW_MS, max_bytes=len(encoded))[0] == "i"
    with pytest.raises(
        InvalidEvent, match=rf"'shop/paid' has {len(encoded)} bytes.* allows {len(encoded) - 1}\."
    ):
        encode_event(event, now_ms=NOW_MS, max_bytes=len(encoded) - 1)


def test_reserved_names_are_for_taskflow_itself() -> None:
    with pytest.raises(InvalidEvent, match="'taskflow/' are reserved; choose another name"):
        encode(Event("taskflow/function.failed"))
    assert encode(Event("taskflow/function.failed"), internal=True)[1]["name"] == "taskflow/function.failed"


@pytest.mark.parametrize(
    ("value", "reason"), [({1}, r"\$\.data\.x is a set"), (float("nan"), r"\$\.data\.x is nan")]
)
def test_data_that_is_no_json_is_refused(value: object, reason: str) -> None:
    with pytest.raises(InvalidEvent, match=rf"^event 'shop/paid' has no JSON form: {reason}"):
        encode(Event("shop/paid", {"x": value}))


def test_a_message_of_events_is_decoded() -> None:
    body = orjson.dumps([WIRE, WIRE | {"user": {"id": 7}, "v": "2", "later": True}])
    plain, full = decode_message(body)
    assert ReceivedEvent.from_wire(plain) == ReceivedEvent(
        uid=UID, id="order-1", name="shop/paid", data={"n": 1}, ts=NOW_MS, user=None, v=None
    )
    assert (ReceivedEvent.from_wire(full).user, ReceivedEvent.from_wire(full).v) == ({"id": 7}, "2")


def test_what_is_encoded_can_be_decoded() -> None:
    bodies = [encode_event(Event("shop/paid", {"n": n}), now_ms=NOW_MS, max_bytes=1_000)[1] for n in range(3)]
    assert [event["data"]["n"] for event in decode_message(b"[" + b",".join(bodies) + b"]")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "got 0 bytes that are no JSON"),
        (b"\xff\x00", "got 2 bytes that are no JSON"),
        (b"{}", "expected a JSON array of events, got a JSON dict"),
        (b"[1]", "event 0 of the message: expected a JSON object, got a int"),
        (
            orjson.dumps([WIRE, {}]),
            "event 1 of the message: has no uid and no id and no name and no data and no ts",
        ),
        (orjson.dumps([WIRE | {"uid": "x"}]), "uid must be a ULID, got 'x'"),
        (orjson.dumps([WIRE | {"name": ""}]), "must have 1 to 256 characters, got 0"),
        (orjson.dumps([WIRE | {"data": []}]), "data must be a JSON object"),
        (orjson.dumps([WIRE | {"ts": "now"}]), "ts must be an int"),
        (orjson.dumps([WIRE | {"user": 1}]), "user must be"),
    ],
)
def test_a_message_that_is_no_array_of_events_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(InvalidEvent, match=reason):
        decode_message(body)


@given(st.binary(max_size=40) | st.text(alphabet='[]{}",:0tna', max_size=30).map(str.encode))
def test_no_message_makes_the_decoder_raise_anything_else(body: bytes) -> None:
    with suppress(InvalidEvent):
        decode_message(body)
