"""`taskflow functions`: what workers have registered."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskflow import TaskFlow, TriggerCron, TriggerEvent
from taskflow.context import Context
from taskflow.run import RunStatus
from taskflow.testing.harness import Harness
from taskflow.values.clock import VirtualClock
from taskflow.worker.child.runner import AppRunner, RunnerOptions
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
    functions, code_bases = outcome.stdout.split("\n\n")
    header, *rows = (re.split(r"\s{2,}", line.strip()) for line in functions.splitlines())
    assert header == ["function", "triggers", "queue", "live", "failed", "retries", "next tick"]
    assert rows[0] == ["mail/post", "by invoke only", "default", "0", "0", "4"]
    assert rows[1] == ["shop/fulfil", "shop/order if event.data.n > 1, shop/again", "default", "0", "0", "2"]
    assert rows[2][:6] == ["shop/report", "cron 0 3 * * *, cron * * * * *", "reports", "0", "0", "4"]
    assert re.fullmatch(
        r"\d\d:\d\d \((in \d+ s|now)\)|\d{4}-\d\d-\d\d \d\d:\d\d \((in \d+ s|now)\)", rows[2][6]
    )
    header, *rows = (re.split(r"\s{2,}", line.strip()) for line in code_bases.splitlines())
    assert header == ["app", "version", "workers", "functions", "since"]
    assert [(row[0], *row[2:4]) for row in rows] == [("mail", "1", "1"), ("shop", "1", "2")]
    assert all(re.fullmatch(r"[0-9a-f]{8}", row[1]) for row in rows)


async def test_code_bases_that_clash_are_told(harness: Harness, shell: Shell, make_app: MakeApp) -> None:
    """S2.7"""
    stranger = make_app("shop")

    @stranger.function(trigger="wine/order")
    async def decant(ctx: Context[Any]) -> None: ...

    runner = AppRunner(stranger, RunnerOptions(), child_id="stranger:1", clock=harness.clock)
    await runner.start()
    outcome = await shell.arun("functions", "--json")
    await runner.stop()
    assert "two code bases share the app id 'shop', and have no function in common" in outcome.stderr
    versions = {each["id"]: each["versions"] for each in outcome.json}
    assert versions["shop/decant"] != versions["shop/report"] == versions["shop/fulfil"]


async def test_json_is_stable(harness: Harness, shell: Shell) -> None:
    post, fulfil, report = (await shell.arun("functions", "--json")).json
    (version,) = post.pop("versions")
    assert post.pop("runs") == dict.fromkeys(RunStatus, 0)
    assert version != report["versions"][0]
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
