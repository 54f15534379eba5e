"""`taskflow bulk`, and the commands that begin a bulk operation where they find many runs. Rule S14.6."""

from __future__ import annotations

import asyncio
import time

import pytest

from taskflow.app import TaskFlow
from taskflow.commands import bulk, cancel, replay
from taskflow.context import Context
from taskflow.errors import NonRetriableError
from taskflow.step import Step
from taskflow.testing import Harness
from taskflow.values.clock import VirtualClock
from tests.commands.shell import Outcome, Shell

CANCEL = ("runs", "cancel", "--function", "shop/work", "--yes", "--json")


@pytest.fixture
def shell(valkey_url: str, namespace: str) -> Shell:
    return Shell(
        {"TASKFLOW_STORE": valkey_url, "TASKFLOW_BROKER": valkey_url, "TASKFLOW_NAMESPACE": namespace}
    )


@pytest.fixture(autouse=True)
def many_is_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancel, "LARGE", 2)
    monkeypatch.setattr(replay, "LARGE", 2)
    monkeypatch.setattr(bulk, "LOOK_EVERY_S", 0.01)


def define(app: TaskFlow) -> None:
    @app.function(trigger="work", retries=0)
    async def work(ctx: Context[Step]) -> None:
        if ctx.event.data.get("fails"):
            raise NonRetriableError("no")
        await ctx.step.sleep("nap", "1d")


def real_clock() -> VirtualClock:
    """Commands go by the real clock: what they are to find must have been made by then."""
    return VirtualClock(time.time_ns() // 1_000_000)


async def while_beat_works(harness: Harness, shell: Shell, *command: str) -> Outcome:
    """The outcome of a command that follows a bulk operation."""
    # So that beat leads at the real time too.
    await harness.advance(seconds=5)
    async with asyncio.TaskGroup() as group:
        outcome = group.create_task(shell.arun(*command))
        while not outcome.done():
            await harness.advance(seconds=1)
            await asyncio.sleep(0)
    return outcome.result()


async def test_many_runs_are_cancelled_by_beat_and_few_here(app: TaskFlow, shell: Shell) -> None:
    define(app)
    async with Harness(app, clock=real_clock()) as harness:
        for _ in range(2):
            await app.asend("work")
        await harness.settled()
        assert (await shell.arun(*CANCEL)).json == {"found": 2, "cancelled": 2}
        assert (await shell.arun("bulk", "list", "--json")).json == []
        for _ in range(5):
            await app.asend("work")
        await harness.settled()
        outcome = await while_beat_works(harness, shell, *CANCEL)
        assert outcome.json == {"found": 5, "cancelled": 5}, outcome.stderr
        (told,) = (await shell.arun("bulk", "list", "--json")).json
        assert (told["action"], told["status"], told["total"], told["done"]) == ("cancel", "completed", 5, 5)
        assert told["who"].endswith("on the command line")
        shown = await shell.arun("bulk", "show", told["id"])
        assert "completed: 5 of 5 done" in shown.stdout
        assert told["id"] in (await shell.arun("bulk", "list")).stdout
        stopped = await shell.arun("bulk", "stop", told["id"], "--json")
        assert stopped.json == {"id": told["id"], "was_running": False}
        unknown = await shell.arun("bulk", "show", "none")
        assert (unknown.code, "there is no bulk operation" in unknown.stderr) == (1, True)


async def test_many_runs_are_replayed_by_beat(app: TaskFlow, shell: Shell) -> None:
    define(app)
    async with Harness(app, clock=real_clock()) as harness:
        for _ in range(4):
            await app.asend("work", {"fails": True})
        await harness.settled()
        command = ("replay", "shop/work", "--since", "2000-01-01T00:00:00Z", "--yes", "--json")
        outcome = await while_beat_works(harness, shell, *command)
        assert (outcome.json["found"], outcome.json["made"]) == (4, 4), outcome.stderr
        await harness.settled()
        assert len(await app.aruns("shop/work")) == 8
