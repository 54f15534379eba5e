"""`taskflow events`: list, show, schema."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import Field

from taskflow import Context, Event, EventModel, RateLimit, Step, TaskFlow, TriggerEvent
from taskflow.testing import Harness
from taskflow.values.clock import VirtualClock
from tests.commands.shell import Shell


class Paid(EventModel, name="paid", v="2"):
    n: int
    note: str | None = Field(None, description="What the customer wrote.")


@pytest.fixture
async def harness(app: TaskFlow) -> AsyncIterator[Harness]:
    @app.function(trigger="order")
    async def fulfil(ctx: Context[Any], step: Step) -> None:
        await step.wait_for_event("paid", "paid", "1h", match="data.n")

    @app.function(trigger="order", rate_limit=RateLimit(1, "1h"))
    async def greet(ctx: Context[Any]) -> None: ...

    async with Harness(app, clock=VirtualClock(time.time_ns() // 1_000_000)) as harness:
        yield harness


async def test_show_tells_what_an_event_came_to(harness: Harness, shell: Shell) -> None:
    first, second = await harness.send([Event("order", {"n": 1}, id="order-1"), Event("order", {"n": 2})])
    (paid,) = await harness.send("paid", {"n": 2})
    page = (await shell.arun("events", "show", "order-1")).stdout
    assert page.startswith("● order  ·  2 started\n")
    assert '  data      {"n":1}\n' in page
    page = (await shell.arun("events", "show", second)).stdout
    assert page.startswith("● order  ·  1 started, 1 skipped\n")
    shown = (await shell.arun("events", "show", second, "--json")).json
    assert list(shown["started"]) == ["shop/fulfil"]
    assert list(shown["skipped"]) == ["shop/greet"]
    resumed = (await shell.arun("events", "show", paid, "--json")).json["resumed"]
    assert resumed == [{"run_id": shown["started"]["shop/fulfil"], "step": "paid"}]


async def test_show_tells_whose_condition_did_not_hold_and_why(app: TaskFlow, shell: Shell) -> None:
    """S2.2: an error in an expression counts as false, so nothing else would say it."""

    @app.function(trigger=TriggerEvent("bill", expression="event.data.total < 100"))
    async def small(ctx: Context[Any]) -> None: ...

    @app.function(trigger=TriggerEvent("bill", expression="event.data.total >= 100"))
    async def large(ctx: Context[Any]) -> None: ...

    async with Harness(app, clock=VirtualClock(time.time_ns() // 1_000_000)) as harness:
        nothing, some = await harness.send([Event("bill", {}), Event("bill", {"total": 7})])
        page = (await shell.arun("events", "show", nothing)).stdout
        assert page.startswith("● bill  ·  nothing: no condition held\n")
        assert re.search(r"not started  shop/small  .*there is no event.data.total", page)
        shown = (await shell.arun("events", "show", some, "--json")).json
        assert list(shown["started"]) == ["shop/small"]
        assert shown["unmet"] == {"shop/large": "its condition does not hold: event.data.total >= 100"}


async def test_list_is_newest_first_and_says_of_what_nobody_took_notice(
    harness: Harness, shell: Shell
) -> None:
    await harness.send("order", {"n": 1})
    await harness.send("order", {"n": 1}, id="x")
    await harness.send("order", {"n": 1}, id="x")
    await harness.send("unheard")
    rows = (await shell.arun("events", "list")).stdout.splitlines()
    assert rows[0].split() == ["event", "name", "received", "came", "to"]
    assert "nothing: no function and no run waited for it" in rows[1]
    assert "a duplicate" in rows[2]
    listed = (await shell.arun("events", "list", "--name", "order", "--limit", "2", "--json")).json
    assert [event["name"] for event in listed] == ["order", "order"]


async def test_what_others_wrote_can_not_forge_lines(harness: Harness, shell: Shell) -> None:
    name = "evil\n● order  ·  2 started\x1b[2J\u202e"
    (event_id,) = await harness.send(name, {"x": "\u202eabc"})
    page = (await shell.arun("events", "show", event_id)).stdout
    assert page.startswith("● evil\\n● order  ·  2 started\\x1b[2J\\u202e  ·  nothing")
    assert "\u202e" not in page
    assert (await shell.arun("events", "show", event_id, "--json")).json["name"] == name


def test_unknown_event_is_told_in_one_line(shell: Shell) -> None:
    outcome = shell.run("events", "show", "nope")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith("taskflow: there is no event nope: check the id; ")
    assert shell.run("events", "list").stdout == "no events\n"


async def test_schema_shows_the_types_that_workers_have_registered(
    harness: Harness, shell: Shell, app: TaskFlow
) -> None:
    assert (
        await shell.arun("events", "schema")
    ).stdout == "no function has types for its events (EventModel)\n"

    @app.function(trigger=Paid)
    async def book(ctx: Context[Step, Paid]) -> None: ...

    async with Harness(app):
        rows = (await shell.arun("events", "schema")).stdout.splitlines()
        assert [row.split() for row in rows] == [
            ["event", "v", "type", "functions"],
            ["paid", "2", "Paid", "shop/book"],
        ]
        page = (await shell.arun("events", "schema", "paid")).stdout
        assert page.startswith("● paid  ·  version 2\n")
        assert ["note", "string", "|", "null", "optional", "What", "the", "customer", "wrote."] in [
            line.split() for line in page.splitlines()
        ]
        (shown,) = (await shell.arun("events", "schema", "--json")).json
        assert shown == {
            "name": "paid",
            "v": "2",
            "functions": ["shop/book"],
            "schema": Paid.model_json_schema(),
        }
        assert (await shell.arun("events", "schema", "--typescript")).stdout.endswith(
            'export interface Events {\n  "paid": Paid;\n}\n'
        )
        outcome = await shell.arun("events", "schema", "payd")
        assert outcome.code == 1
        assert "no function has a type for the event 'payd'; did you mean 'paid'?" in outcome.stderr
    assert (await shell.arun("events", "schema", "--json", "--typescript")).code == 2


def test_schema_of_an_app_at_hand_needs_no_server(shell: Shell) -> None:
    nobody = {"BROKER": "redis://127.0.0.1:1/0", "STORE": "redis://127.0.0.1:1/0"}
    shown = shell.run("events", "schema", "--json", "-A", "examples.typed", **nobody).json
    assert [(each["name"], each["v"]) for each in shown] == [("shop/payment", "2"), ("shop/receipt", "1")]
