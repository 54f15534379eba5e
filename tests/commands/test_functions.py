"""`taskflow functions`: what workers have registered."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskflow import TaskFlow, TriggerCron, TriggerEvent
from taskflow.context import Context
from taskflow.testing.harness import Harness
from taskflow.values.clock import VirtualClock
from tests.commands.shell import Shell
from tests.conftest import MakeApp


@pytest.fixture
async def harness(app: TaskFlow, make_app: MakeApp) -> AsyncIterator[Harness]:
    other = make_app("mail")

    @app.function(
        trigger=[TriggerEvent("shop/order", expression="event.data.n > 1"), "shop/again"], retries=2
    )
    async def fulfil(ctx: Context[Any]) -> None: ...

    @app.function(trigger=[TriggerCron("0 3 * * *"), TriggerCron("* * * * *")], queue="reports")
    async def report(ctx: Context[Any]) -> None: ...

    @other.function()
    async def post(ctx: Context[Any]) -> None: ...

    async with Harness(app, other, clock=VirtualClock(time.time_ns() // 1_000_000)) as harness:
        yield harness


async def test_functions_of_all_apps_are_listed(harness: Harness, shell: Shell) -> None:
    outcome = await shell.arun("functions")
    header, *rows = (re.split(r"\s{2,}", line.strip()) for line in outcome.stdout.splitlines())
    assert header == ["function", "triggers", "queue", "retries", "next tick"]
    assert rows[0] == ["mail/post", "by invoke only", "default", "4"]
    assert rows[1] == ["shop/fulfil", "shop/order if event.data.n > 1, shop/again", "default", "2"]
    assert rows[2][:4] == ["shop/report", "cron 0 3 * * *, cron * * * * *", "reports", "4"]
    assert re.fullmatch(
        r"\d\d:\d\d \((in \d+ s|now)\)|\d{4}-\d\d-\d\d \d\d:\d\d \((in \d+ s|now)\)", rows[2][4]
    )


async def test_json_is_stable(harness: Harness, shell: Shell) -> None:
    post, fulfil, report = (await shell.arun("functions", "--json")).json
    assert post == {
        "id": "mail/post", "app": "mail", "name": "post", "triggers": [], "queue": "default", "retries": 4,
        "next_tick_ms": None, "paused_ms": None,
    }  # fmt: skip
    assert fulfil["triggers"] == [
        {"event": "shop/order", "expression": "event.data.n > 1"}, {"event": "shop/again", "expression": None},
    ]  # fmt: skip
    assert 0 < report["next_tick_ms"] - time.time() * 1000 <= 60_000


def test_store_without_functions_says_who_registers_them(shell: Shell, valkey_url: str) -> None:
    assert "no functions in the store at " in shell.run("functions").stdout
    assert shell.run("functions", "--json").json == []
