"""`taskflow replay` and `taskflow runs rerun`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from taskflow import Context, NonRetriableError, Step, TaskFlow
from taskflow.run import Run
from taskflow.testing import Harness
from taskflow.values.clock import VirtualClock
from tests.commands.shell import Shell


@pytest.fixture
async def harness(app: TaskFlow) -> AsyncIterator[Harness]:
    broken = {"is": True}

    @app.function(trigger="order", retries=0)
    async def work(ctx: Context[Step], step: Step) -> list[str]:
        first = await step.run("first", lambda: f"first of {ctx.event.data['n']}")
        if broken["is"]:
            raise NonRetriableError("broken")
        return [first, await step.run("second", lambda: "second")]

    # By the real clock: commands go by it.
    async with Harness(app, clock=VirtualClock(time.time_ns() // 1_000_000)) as harness:
        for number in (1, 2, 3):
            await harness.send("order", {"n": number}, id=f"o{number}")
        broken["is"] = False
        yield harness


async def reruns_of(harness: Harness, app: TaskFlow) -> list[Run]:
    runs = await harness.runs(app.functions["shop/work"])
    return [run for run in runs if (await harness.view(run)).cause in ("rerun", "replay")]


# --- replay ---


async def test_failed_runs_are_replayed(harness: Harness, app: TaskFlow, shell: Shell) -> None:
    outcome = await shell.arun("replay", "shop/work", "--since", "1h", "--status", "failed", "--yes")
    assert (outcome.code, outcome.stdout) == (0, "3 runs of shop/work run anew\n")
    assert outcome.stderr.startswith("replay 01")
    await harness.settled()
    results = [await run.aresult("2s") for run in await reruns_of(harness, app)]
    assert sorted(result[0] for result in results) == ["first of 1", "first of 2", "first of 3"]
    again = await shell.arun("replay", "shop/work", "--since", "1h", "--yes")
    assert (again.code, again.stdout) == (0, "no such runs of shop/work\n")


async def test_a_dry_run_only_counts(harness: Harness, app: TaskFlow, shell: Shell) -> None:
    outcome = await shell.arun(
        "replay", "shop/work", "--since", "1h", "--if", "event.data.n > 1", "--dry-run"
    )
    assert outcome.stdout == "2 runs of shop/work would run anew\n"
    assert await reruns_of(harness, app) == []


async def test_json_names_the_replay(harness: Harness, shell: Shell) -> None:
    arguments = ("replay", "shop/work", "--since", "1h", "--replay-id", "mended", "--yes", "--json")
    assert (await shell.arun(*arguments)).json == {
        "function": "shop/work",
        "replay_id": "mended",
        "found": 3,
        "made": 3,
    }
    assert (await shell.arun(*arguments)).json == {
        "function": "shop/work",
        "replay_id": "mended",
        "found": 0,
        "made": 0,
    }
    await harness.settled()


async def test_starts_are_spread(harness: Harness, app: TaskFlow, shell: Shell) -> None:
    await shell.arun("replay", "shop/work", "--since", "1h", "--over", "30m", "--yes")
    await harness.advance(minutes=1)
    statuses = sorted([await run.astatus() for run in await reruns_of(harness, app)])
    assert statuses == ["completed", "scheduled", "scheduled"]
    await harness.advance(minutes=30)
    assert {await run.astatus() for run in await reruns_of(harness, app)} == {"completed"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--since", "1h"), "give --yes, or --dry-run"),
        (("--since", "yesterday", "--yes"), "can't be read"),
        (("--yes",), "Missing option '--since'"),
        (("--since", "1h", "--status", "running", "--yes"), "expected some of"),
    ],
)
def test_wrong_usage(shell: Shell, arguments: tuple[str, ...], told: str) -> None:
    outcome = shell.run("replay", "shop/work", *arguments)
    assert outcome.code == 2
    assert told in outcome.stderr


# --- runs rerun ---


async def test_a_run_is_made_anew(harness: Harness, app: TaskFlow, shell: Shell) -> None:
    failed = await harness.run_of(app.functions["shop/work"], "o1")
    outcome = await shell.arun("runs", "rerun", failed.id)
    assert outcome.code == 0
    rerun = app.run(outcome.stdout.strip())
    assert await rerun.aresult("2s") == ["first of 1", "second"]
    shown = await shell.arun("runs", "show", rerun.id)
    assert f"rerun of  run {failed.id}" in shown.stdout
    assert f"rerun by  run {rerun.id}" in (await shell.arun("runs", "show", failed.id)).stdout


async def test_from_a_step_with_another_outcome(harness: Harness, app: TaskFlow, shell: Shell) -> None:
    failed = await harness.run_of(app.functions["shop/work"], "o1")
    outcome = await shell.arun(
        "runs", "rerun", failed.id, "--from-step", "first", "--output", '"by hand"', "--json"
    )
    assert outcome.json["rerun_of"] == failed.id
    rerun = app.run(outcome.json["run_id"])
    assert await rerun.aresult("2s") == ["by hand", "second"]
    assert "kept" in (await shell.arun("runs", "show", rerun.id)).stdout
    first, second = (await shell.arun("runs", "show", rerun.id, "--json")).json["steps"]
    assert (first["is_kept"], second["is_kept"]) == (True, False)


async def test_with_other_data(harness: Harness, app: TaskFlow, shell: Shell) -> None:
    failed = await harness.run_of(app.functions["shop/work"], "o1")
    outcome = await shell.arun("runs", "rerun", failed.id, "--data", '{"n": 7}')
    assert await app.run(outcome.stdout.strip()).aresult("2s") == ["first of 7", "second"]


async def test_what_can_not_be_rerun_says_why(harness: Harness, app: TaskFlow, shell: Shell) -> None:
    unknown = await shell.arun("runs", "rerun", "nonsense")
    assert (unknown.code, "there is no run nonsense" in unknown.stderr) == (1, True)
    failed = await harness.run_of(app.functions["shop/work"], "o1")
    no_step = await shell.arun("runs", "rerun", failed.id, "--from-step", "third")
    assert (no_step.code, "has no step 'third'" in no_step.stderr) == (1, True)
    usage = await shell.arun("runs", "rerun", failed.id, "--output", "1")
    assert (usage.code, "name it with --from-step" in usage.stderr) == (2, True)
