"""`taskflow runs cancel` for all runs that match."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from taskflow import Context, Event, Step, TaskFlow
from taskflow.run import RunStatus
from taskflow.testing import Harness
from taskflow.values.clock import VirtualClock
from tests.commands.shell import Shell

CANCEL = ("runs", "cancel")


@pytest.fixture
async def harness(app: TaskFlow) -> AsyncIterator[Harness]:
    """Five runs each of two functions, asleep."""

    @app.function(trigger="order")
    async def work(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1 day")

    @app.function(trigger="order")
    async def other(ctx: Context[Step], step: Step) -> None:
        await step.sleep("nap", "1 day")

    # By the real clock: commands go by it.
    async with Harness(app, clock=VirtualClock(time.time_ns() // 1_000_000)) as harness:
        await harness.send([Event("order", {"n": number}) for number in range(5)])
        yield harness


async def count_cancelled(harness: Harness) -> dict[str, int]:
    """By function."""
    found = {}
    for slug in ("work", "other"):
        runs = await harness.runs(harness.apps[0].functions[f"shop/{slug}"])
        found[slug] = [await run.astatus() for run in runs].count(RunStatus.CANCELLED)
    return found


async def test_all_live_runs_of_a_function_are_cancelled(harness: Harness, shell: Shell) -> None:
    outcome = await shell.arun(*CANCEL, "--function", "shop/work", "--yes", "--reason", "enough")
    assert (outcome.code, outcome.stdout) == (
        0,
        "5 runs cancelled; those that execute end after their running steps\n",
    )
    assert await count_cancelled(harness) == {"work": 5, "other": 0}
    again = await shell.arun(*CANCEL, "--function", "shop/work", "--yes")
    assert (again.code, again.stdout) == (0, "no such runs\n")


async def test_options_narrow_each_other_over_all_functions(harness: Harness, shell: Shell) -> None:
    options = ("--status", "waiting,queued", "--since", "1h", "--if", "event.data.n > 2")
    outcome = await shell.arun(*CANCEL, *options, "--yes", "--json")
    assert outcome.json == {"found": 4, "cancelled": 4}
    assert await count_cancelled(harness) == {"work": 2, "other": 2}
    outcome = await shell.arun(*CANCEL, "--until", "1h", "--yes", "--json")
    assert outcome.json == {"found": 0, "cancelled": 0}


async def test_a_dry_run_only_counts(harness: Harness, shell: Shell) -> None:
    outcome = await shell.arun(*CANCEL, "--status", "waiting", "--dry-run")
    assert outcome.stdout == "10 runs would be cancelled\n"
    assert await count_cancelled(harness) == {"work": 0, "other": 0}


async def test_a_function_that_never_was_is_an_error(harness: Harness, shell: Shell) -> None:
    outcome = await shell.arun(*CANCEL, "--function", "shop/nope", "--yes")
    assert outcome.code == 1
    assert outcome.stderr.startswith("taskflow: there is no function 'shop/nope'")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name runs, or say which"),
        (("r1", "--function", "shop/work"), "name runs, or say which"),
        (("r1", "--dry-run"), "name runs, or say which"),
        (("--function", "shop/work"), "nobody is there to ask"),
        (("--status", "completed", "--yes"), "expected some of queued, running, scheduled, waiting"),
        (("--since", "soon", "--yes"), "Invalid value for '--since'"),
    ],
)
async def test_wrong_usage_is_refused(shell: Shell, options: tuple[str, ...], message: str) -> None:
    outcome = await shell.arun(*CANCEL, *options)
    assert outcome.code == 2
    assert message in outcome.stderr
