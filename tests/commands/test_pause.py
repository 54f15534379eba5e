"""`taskflow pause` and `taskflow resume`."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator

import pytest

from taskflow import Context, Step, TaskFlow
from taskflow.run import RunStatus
from taskflow.testing import Harness
from taskflow.values.clock import VirtualClock
from tests.commands.shell import Shell


@pytest.fixture
async def harness(app: TaskFlow) -> AsyncIterator[Harness]:
    @app.function(trigger="order")
    async def work(ctx: Context[Step], step: Step) -> str:
        if ctx.event.data.get("sleep"):
            await step.sleep("nap", "1h")
        return ctx.event.id

    # By the real clock: commands go by it.
    async with Harness(app, clock=VirtualClock(time.time_ns() // 1_000_000)) as harness:
        yield harness


async def test_a_function_is_paused_and_resumed(harness: Harness, app: TaskFlow, shell: Shell) -> None:
    paused = await shell.arun("pause", "shop/work")
    assert (paused.code, paused.stdout) == (0, "shop/work is paused\n")
    (event_id,) = await harness.send("order")
    run = await harness.run_of(app.functions["shop/work"], event_id)
    assert "skipped: paused" in (await shell.arun("runs", "show", run.id)).stdout
    resumed = await shell.arun("resume", "shop/work")
    assert (resumed.code, resumed.stdout) == (0, "shop/work goes on\n")
    assert (await shell.arun("resume", "shop/work")).stdout == "shop/work was not paused\n"


async def test_functions_tells_which_are_paused(harness: Harness, shell: Shell) -> None:
    await shell.arun("pause", "shop/work")
    assert re.search(r"shop/work \(paused since \d\d:\d\d", (await shell.arun("functions")).stdout)
    (told,) = (await shell.arun("functions", "--json")).json
    assert abs(told["paused_ms"] - time.time() * 1000) < 60_000
    await shell.arun("resume", "shop/work")
    (told,) = (await shell.arun("functions", "--json")).json
    assert told["paused_ms"] is None


async def test_live_runs_are_cancelled_if_asked_for(harness: Harness, app: TaskFlow, shell: Shell) -> None:
    (event_id,) = await harness.send("order", {"sleep": True})
    run = await harness.run_of(app.functions["shop/work"], event_id)
    outcome = await shell.arun("pause", "shop/work", "--cancel-running", "--json")
    assert outcome.json == {"function": "shop/work", "cancelled": 1}
    assert await run.astatus() is RunStatus.CANCELLED


async def test_what_was_skipped_is_replayed_on_resuming(
    harness: Harness, app: TaskFlow, shell: Shell
) -> None:
    """Only what the pause skipped, and each once."""
    await harness.send("order", id="before")
    await shell.arun("pause", "shop/work")
    await harness.send("order", id="o1")
    await harness.send("order", id="o2")
    outcome = await shell.arun("resume", "shop/work", "--replay-skipped", "--json")
    assert outcome.json == {"function": "shop/work", "was_paused": True, "replayed": 2}
    await harness.settled()
    runs = await harness.runs(app.functions["shop/work"])
    reruns = [run for run in runs if (await harness.view(run)).cause == "replay"]
    assert sorted([await run.aresult("2s") for run in reruns]) == ["o1", "o2"]


async def test_a_function_that_nobody_knows_is_an_error(harness: Harness, shell: Shell) -> None:
    outcome = await shell.arun("pause", "shop/wrok")
    assert outcome.code == 1
    assert "there is no function 'shop/wrok'" in outcome.stderr


def test_a_function_without_its_app_is_wrong_usage(shell: Shell) -> None:
    outcome = shell.run("pause", "work")
    assert outcome.code == 2
    assert "Write app/work, or give -A" in outcome.stderr


@pytest.mark.parametrize("arguments", [("pause", "a/b", "--cancel-running"), ("resume", "a/b")])
def test_a_store_without_a_broker_is_wrong_usage(arguments: tuple[str, ...], valkey_url: str) -> None:
    outcome = Shell({}).run(*arguments, "--store", valkey_url)
    assert outcome.code == 2
    assert "give --broker too" in outcome.stderr
