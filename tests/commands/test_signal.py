"""`taskflow signal`: from the shell into a run that waits. Rule S3.4."""

from __future__ import annotations

import time
from typing import Any

import pytest

from taskflow import TaskFlow
from taskflow.context import Context
from taskflow.run import RunStatus
from taskflow.step import Step
from taskflow.testing.harness import Harness
from taskflow.values.clock import VirtualClock
from tests.commands.shell import Shell


async def test_signal_resumes_the_run_that_waits_and_prints_its_id(app: TaskFlow, shell: Shell) -> None:
    @app.function()
    async def approve(ctx: Context[Step], step: Step) -> Any:
        got = await step.wait_for_signal("approval", "approve-7", timeout="1h")
        return got and [got.name, got.data]

    async with Harness(app, clock=VirtualClock(time.time_ns() // 1_000_000)) as harness:
        run = await harness.start(approve)
        shown = await shell.arun("runs", "show", run.id)
        assert "waiting: signal approve-7 until" in shown.stdout
        outcome = await shell.arun("signal", "approve-7", "--data", '{"by": "ann"}', "--app", "shop")
        assert (outcome.code, outcome.stdout.strip()) == (0, run.id)
        await harness.settled()
        assert await run.aresult("1s") == ["approve-7", {"by": "ann"}]
        again = await shell.arun("signal", "approve-7", "--app", "shop", "--json")
        assert (again.code, again.json) == (1, {"run_id": None})
        assert await run.astatus() is RunStatus.COMPLETED


def test_signal_that_nobody_waits_for_is_told_in_plain_words(shell: Shell) -> None:
    outcome = shell.run("signal", "approve-7", "--app", "shop")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr == "taskflow: no run of shop waits for the signal 'approve-7'\n"


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["approve-7"], 2, "which app is the signal for? Give -A MODULE[:APP], or --app ID"),
        (["approve-7", "--app", "shop", "--data", "{"], 2, "expected JSON like '{\"ok\": true}', got '{'"),
        (["approve-7", "--app", "shop", "-A", "shop"], 2, "give either -A or --app"),
        (["a\x01b", "--app", "shop"], 1, "a signal must be a string of 1 to 256 printable characters"),
    ],
)
def test_what_can_not_be_sent_is_told(shell: Shell, arguments: list[str], code: int, what: str) -> None:
    outcome = shell.run("signal", *arguments)
    assert (outcome.code, outcome.stdout) == (code, "")
    assert what in outcome.stderr
