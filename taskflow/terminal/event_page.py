"""Shows an event on a page, and as a row of a list: its content, and what it started. For `taskflow events`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo

import orjson

from taskflow.sent import EventView
from taskflow.terminal.screen import Cell, Line, aligned, plain
from taskflow.values.text import short
from taskflow.values.times import date_and_time, relative

INDENT = "  "
LIST_HEADER = ("event", "name", "received", "came to")
SHOWN_CHARS = 4_000  # of the event's data; --json has all of it


def event_page(event: EventView, *, now_ms: int, zone: tzinfo | None = None) -> Iterator[Line]:
    """The lines of the page."""
    yield [("● ", "accent"), (event.name, "bold"), ("  ·  ", "dim"), (came_to(event), "")]
    yield []
    received = f"{date_and_time(event.received_ms, zone)} ({relative(event.received_ms, now_ms=now_ms)})"
    rows = [
        ("event", event.id), ("uid", event.uid if event.uid != event.id else ""), ("received", received),
        ("ts", date_and_time(event.ts, zone)), ("user", json_text(event.user) if event.user else ""), ("v", event.v or ""),
        ("headers", " ".join(f"{name}={value}" for name, value in event.headers.items())),
        ("data", json_text(event.data)), ("first", f"event {event.duplicate_of}" if event.duplicate_of else ""),
    ]  # fmt: skip
    yield from aligned([[plain(name, "dim"), plain(value)] for name, value in rows if value], indent=INDENT)
    outcomes = list(outcome_rows(event))
    if outcomes:
        yield []
        yield from aligned(outcomes, indent=INDENT)


def outcome_rows(event: EventView) -> Iterator[list[Cell]]:
    """One row for each function that the event started or was refused by, and for each wait and run that it ended."""
    for function, run_id in event.started.items():
        yield [plain("started", "good"), plain(function, "bold"), plain(f"run {run_id}")]
    for function, run_id in event.superseded.items():
        yield [plain("debounced", "dim"), plain(function, "bold"), plain(f"run {run_id} has a later event")]
    for function, reason in event.skipped.items():
        yield [plain("skipped", "warn"), plain(function, "bold"), plain(reason)]
    for function, reason in event.unmet.items():
        yield [plain("not started", "dim"), plain(function, "bold"), plain(reason)]
    for run_id, step in event.resumed:
        yield [plain("resumed", "accent"), plain(f"step {step}", "bold"), plain(f"run {run_id}")]
    for run_id in event.cancelled:
        yield [plain("cancelled", "warn"), plain(""), plain(f"run {run_id}")]


def came_to(event: EventView) -> str:
    """What the event started, in short: "2 started, 1 skipped"."""
    if event.duplicate_of:
        return "a duplicate"
    counts = (
        ("started", event.started), ("debounced", event.superseded), ("skipped", event.skipped), ("resumed", event.resumed),
        ("cancelled", event.cancelled),
    )  # fmt: skip
    told = ", ".join(f"{len(found):,} {name}" for name, found in counts if found)
    if event.unmet and not told:
        return "nothing: no condition held"
    return told or "nothing: no function and no run waited for it"


def json_text(value: object) -> str:
    return short(orjson.dumps(value).decode(), SHOWN_CHARS)


def list_row(event: EventView, now_ms: int) -> list[Cell]:
    """An event as a row of `taskflow events list`."""
    return [
        plain(event.id), plain(event.name, "bold"), plain(relative(event.received_ms, now_ms=now_ms), "dim"),
        plain(came_to(event), "dim" if event.came_to_nothing else ""),
    ]  # fmt: skip
