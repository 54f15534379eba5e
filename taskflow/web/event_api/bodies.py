"""What clients send as events: one JSON object or a list, lines of JSON, CloudEvents. All of it is checked before any is sent."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import orjson

from taskflow.errors import InvalidEvent
from taskflow.event import MAX_EVENTS, MAX_ID_CHARS, Event
from taskflow.types import JsonObject
from taskflow.web.catalogue.problems import Kind, Problem

LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/jsonlines")
CLOUD, CLOUD_LIST = "application/cloudevents+json", "application/cloudevents-batch+json"
RESERVED = "inngest/"
MAX_ERRORS = 10  # that one answer names
# SDKs send the time of their own clock with each event. Up to here in the future that is no wish for a delay (S1.4).
MAX_SKEW_MS = 5_000
TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def read_events(body: bytes, headers: Mapping[str, str], *, now_ms: int) -> tuple[list[Event], bool]:
    """The events of a request, and whether it was a list. Raises Problem, which names each event that is wrong."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    inherited = trace_headers(headers)
    if "ce-specversion" in headers:
        return made([lambda: binary_cloud_event(body, kind, headers, now_ms)]), False
    if kind in LINES:
        lines = [line for line in body.split(b"\n") if line.strip()]
        return made([lambda line=line: event_of(parsed(line), inherited, now_ms) for line in lines]), True
    told = parsed(body)
    is_list = isinstance(told, list)
    members = told if is_list else [told]
    if kind in (CLOUD, CLOUD_LIST):
        return made([lambda each=each: cloud_event(each, now_ms) for each in members]), is_list
    return made([lambda each=each: event_of(each, inherited, now_ms) for each in members]), is_list


def made(makers: list[Any]) -> list[Event]:
    """The events that are made; all errors at once."""
    if len(makers) > MAX_EVENTS:
        raise Problem(
            Kind.TOO_LARGE,
            f"at most {MAX_EVENTS:,} events are taken at a time, got {len(makers):,}: send them in parts",
        )
    events, errors = [], []
    for index, make in enumerate(makers):
        try:
            events.append(make())
        except InvalidEvent as error:
            errors.append({"index": index, "message": str(error)})
            if len(errors) == MAX_ERRORS:
                break
    if errors:
        first = errors[0]
        raise Problem(
            Kind.INVALID_EVENT, f"event {first['index']}: {first['message']}", more={"errors": errors}
        )
    return events


def parsed(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Problem(
            Kind.INVALID_REQUEST,
            f"expected an event or a list of events as JSON in UTF-8, got {len(text):,} bytes: {error}",
        ) from None


def event_of(told: Any, headers: Mapping[str, str] | None, now_ms: int) -> Event:
    """The event of an object as Inngest's SDKs send it; members that it does not know are left out. Raises InvalidEvent."""
    if not isinstance(told, dict):
        raise InvalidEvent(f"expected a JSON object with name and data, got a {type(told).__name__}")
    name, data, own = told.get("name"), told.get("data"), told.get("headers")
    if name is None:
        raise InvalidEvent("it has no name")
    if isinstance(name, str) and name.lower().startswith(RESERVED):
        raise InvalidEvent(
            f"event {name!r:.80}: names that start with {RESERVED!r} are reserved; choose another name"
        )
    if isinstance(data, dict) and "_inngest" in data:
        data = {key: value for key, value in data.items() if key != "_inngest"}
    ts = told.get("ts") or None
    if type(ts) is int and now_ms < ts <= now_ms + MAX_SKEW_MS:
        ts = None
    return Event(
        name, {} if data is None else data, told.get("id") or None, ts, told.get("user"), told.get("v") or None,
        headers if own is None else own,
    )  # fmt: skip


def trace_headers(headers: Mapping[str, str]) -> Mapping[str, str] | None:
    """The context of the sender's trace, which the event's runs inherit."""
    trace = headers.get("traceparent", "")
    return {"traceparent": trace} if TRACE.fullmatch(trace) else None


# --- CloudEvents 1.0 ---


def binary_cloud_event(body: bytes, kind: str, headers: Mapping[str, str], now_ms: int) -> Event:
    """A CloudEvent whose attributes stand in headers, and whose data is the body."""
    attributes: JsonObject = {name[3:]: value for name, value in headers.items() if name.startswith("ce-")}
    if kind in ("", "application/json") or kind.endswith("+json"):
        attributes["data"] = parsed(body) if body else None
    else:
        attributes["data_base64"] = base64.b64encode(body).decode()
    return cloud_event(attributes, now_ms)


def cloud_event(told: Any, now_ms: int) -> Event:
    """The event of a CloudEvent: its type is the name; source and id together are the id. Raises InvalidEvent."""
    if not isinstance(told, dict):
        raise InvalidEvent(f"expected a CloudEvent, got a {type(told).__name__}")
    for name in ("specversion", "type", "source", "id"):
        if not (isinstance(told.get(name), str) and told[name]):
            raise InvalidEvent(f"a CloudEvent needs a text {name!r}, got {told.get(name)!r:.60}")
    if not told["specversion"].startswith("1."):
        raise InvalidEvent(f"expected CloudEvents of specversion 1.x, got {told['specversion']!r:.20}")
    data = told.get("data")
    if "data_base64" in told:
        data = {"base64": checked_base64(told["data_base64"])}
    elif not isinstance(data, dict):
        data = {} if data is None else {"value": data}
    return Event(told["type"], data, whole_id(told["source"], told["id"]), occurred_ms(told.get("time"), now_ms),
                 headers=dict(cloud_headers(told)))  # fmt: skip


def whole_id(source: str, id: str) -> str:
    """One id for a source and an id, which only together name a CloudEvent."""
    whole = f"{source} {id}"
    return whole if len(whole) <= MAX_ID_CHARS else hashlib.sha256(whole.encode()).hexdigest()


def occurred_ms(time: Any, now_ms: int) -> int | None:
    """When it happened. A clock that is ahead must not delay the runs, so the future means now."""
    if time is None:
        return None
    try:
        moment = datetime.fromisoformat(time)
        ms = int(moment.timestamp() * 1000) if moment.tzinfo else None
    except (TypeError, ValueError, OverflowError):
        ms = None
    if ms is None:
        raise InvalidEvent(f"time of a CloudEvent must be like '2030-01-31T12:00:00Z', got {time!r:.60}")
    return min(ms, now_ms)


def checked_base64(text: Any) -> str:
    try:
        base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise InvalidEvent(f"data_base64 of a CloudEvent must be base64, got {text!r:.60}") from None
    return str(text)


def cloud_headers(told: JsonObject) -> Iterator[tuple[str, str]]:
    """What tells the circumstances of a CloudEvent, as headers of the event."""
    for name in ("source", "subject", "dataschema"):
        if isinstance(told.get(name), str):
            yield f"ce-{name}", told[name]
    if isinstance(told.get("traceparent"), str) and TRACE.fullmatch(told["traceparent"]):
        yield "traceparent", told["traceparent"]
