"""`taskflow queues`, and `taskflow invoke --queue`."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator

import pytest

from taskflow import Context, Step, TaskFlow
from taskflow.testing import Harness
from taskflow.values.clock import VirtualClock
from tests.commands.shell import Shell


@pytest.fixture
async def harness(app: TaskFlow) -> AsyncIterator[Harness]:
    @app.function(trigger="order")
    async def work(ctx: Context[Step]) -> None:
        await ctx.step.sleep("nap", "1h")

    @app.function(queue="mail")
    async def post(ctx: Context[Step]) -> None: ...

    # By the real clock: commands go by it.
    async with Harness(app, clock=VirtualClock(time.time_ns() // 1_000_000)) as harness:
        yield harness


def rows_of(table: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]


async def test_queues_are_listed_with_what_is_live_there(harness: Harness, shell: Shell) -> None:
    await harness.send("order")
    sent = await shell.arun("invoke", "shop/work", "--queue", "gpu")
    assert sent.code == 0
    await harness.settled()
    header, *rows = rows_of((await shell.arun("queues", "list")).stdout)
    assert header == ["queue", "queued", "running", "waiting", "scheduled", "workers"]
    assert rows == [
        ["shop/default", "0", "0", "1", "0", "0"],
        ["shop/gpu", "1", "0", "0", "0", "0"],
        ["shop/mail", "0", "0", "0", "0", "0"],
    ]
    told = (await shell.arun("queues", "list", "--json")).json
    assert told[1] == {
        "id": "shop/gpu", "app": "shop", "name": "gpu", "queued": 1, "running": 0, "waiting": 0, "scheduled": 0, "workers": 0,
        "paused_ms": None,
    }  # fmt: skip


async def test_a_queue_is_paused_and_resumed(harness: Harness, shell: Shell) -> None:
    paused = await shell.arun("queues", "pause", "shop/mail")
    assert (paused.code, paused.stdout) == (0, "queue shop/mail is paused\n")
    (run_id,) = (await shell.arun("invoke", "shop/post")).stdout.split()
    await harness.settled()
    assert re.search(
        r"queue paused since .*: taskflow queues resume shop/mail",
        (await shell.arun("runs", "show", run_id)).stdout,
    )
    assert re.search(r"shop/mail \(paused since \d\d:\d\d", (await shell.arun("queues", "list")).stdout)
    resumed = await shell.arun("queues", "resume", "shop/mail")
    assert (resumed.code, resumed.stdout) == (0, "queue shop/mail goes on\n")
    assert (await shell.arun("queues", "resume", "shop/mail", "--json")).json == {
        "queue": "shop/mail", "was_paused": False,
    }  # fmt: skip
    await harness.settled()
    assert (await shell.arun("runs", "show", run_id, "--json")).json["status"] == "completed"


async def test_a_queue_that_does_not_exist_is_an_error_that_says_what_may_be_meant(
    harness: Harness, shell: Shell
) -> None:
    outcome = await shell.arun("queues", "pause", "shop/mial")
    assert outcome.code == 1
    assert "there is no queue 'shop/mial'" in outcome.stderr
    assert "'shop/mail'" in outcome.stderr
    assert (await shell.arun("queues", "pause", "mail")).code == 2


def test_a_store_without_queues_says_where_they_come_from(shell: Shell) -> None:
    assert "a worker registers the functions that name them" in shell.run("queues", "list").stdout
    assert shell.run("queues", "list", "--json").json == []
