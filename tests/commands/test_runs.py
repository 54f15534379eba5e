"""`taskflow runs`: list, show, cancel, wait."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from taskflow import Event, NonRetriableError, TaskFlow
from taskflow.context import Context
from taskflow.retries import Retries
from taskflow.step import Step
from taskflow.testing.harness import Harness
from taskflow.values.clock import VirtualClock
from tests.commands.shell import Shell


def add_functions(app: TaskFlow) -> None:
    @app.function(trigger="shop/order")
    async def fulfil(ctx: Context[Any], step: Step) -> dict[str, int]:
        await step.run("reserve", lambda: 1)
        paid = await step.wait_for_event("paid", "shop/paid", timeout="1h", match="data.id")
        return {"paid": paid.data["id"] if paid else 0}

    @app.function(trigger="shop/fails")
    async def fails(ctx: Context[Any]) -> None:
        raise NonRetriableError("the warehouse is closed")

    @app.function(trigger="shop/flaky", retries=Retries(2, initial="1m", jitter=False))
    async def flaky(ctx: Context[Any], step: Step) -> None:
        await step.run("charge", lambda: 1 / 0)

    @app.function(trigger="shop/quick")
    async def quick(ctx: Context[Any]) -> str:
        return "done"


@pytest.fixture
async def harness(app: TaskFlow) -> AsyncIterator[Harness]:
    add_functions(app)
    async with Harness(app, clock=VirtualClock(time.time_ns() // 1_000_000)) as harness:
        yield harness


async def run_id_of(shell: Shell, function: str) -> str:
    outcome = await shell.arun("runs", "list", "--function", function, "--json")
    found: str = outcome.json[0]["run_id"]
    return found


async def test_list_shows_the_newest_run_first_over_all_functions(harness: Harness, shell: Shell) -> None:
    for name in ("shop/quick", "shop/order", "shop/fails"):
        await harness.send(name, {"id": 1})
        await harness.advance(ms=1)
    outcome = await shell.arun("runs", "list", "--json")
    assert [(run["function"], run["status"]) for run in outcome.json] == [
        ("shop/fails", "failed"), ("shop/fulfil", "waiting"), ("shop/quick", "completed"),
    ]  # fmt: skip
    failed, waiting, completed = outcome.json
    assert failed["error"] == {"name": "NonRetriableError", "message": "the warehouse is closed"}
    assert waiting["why"].startswith("waiting: event shop/paid with data.id=1 until ")
    assert completed["why"] is None


async def test_list_is_a_plain_table_without_a_terminal(harness: Harness, shell: Shell) -> None:
    await harness.send("shop/fails")
    await harness.send("shop/quick")
    outcome = await shell.arun("runs", "list")
    header, *rows, counts = outcome.stdout.splitlines()
    assert counts == "in all 1 completed, 1 failed"
    assert header.split() == ["run", "function", "status", "created", "took", "why"]
    assert {tuple(row.split()[1:4]) for row in rows} == {
        ("shop/quick", "✓", "completed"), ("shop/fails", "✗", "failed"),
    }  # fmt: skip
    assert "NonRetriableError: the warehouse is closed" in outcome.stdout
    assert "\x1b" not in outcome.stdout


async def test_rare_status_is_found_behind_many_other_runs(harness: Harness, shell: Shell) -> None:
    await harness.send("shop/fails")
    # All in one millisecond of the virtual clock: a page of the history ends among equals.
    for _ in range(5):
        await harness.apps[0].asend([Event("shop/quick") for _ in range(50)])
    await harness.settled()
    outcome = await shell.arun("runs", "list", "--status", "failed", "--limit", "1", "--json")
    assert [run["function"] for run in outcome.json] == ["shop/fails"]
    everything = await shell.arun("runs", "list", "--limit", "1000", "--json")
    assert len({run["run_id"] for run in everything.json}) == 251
    assert len((await shell.arun("runs", "list", "--limit", "7", "--json")).json) == 7


async def test_list_can_be_limited_in_time(harness: Harness, shell: Shell) -> None:
    await harness.send("shop/quick")
    assert len((await shell.arun("runs", "list", "--since", "1h", "--json")).json) == 1
    # The store's clock goes on, the harness's stands still.
    async with asyncio.timeout(5):
        while (await shell.arun("runs", "list", "--since", "1ms", "--json")).json:
            pass


async def test_show_draws_the_steps_and_says_what_a_run_waits_for(harness: Harness, shell: Shell) -> None:
    await harness.send("shop/order", {"id": 7}, id="order-7")
    run_id = await run_id_of(shell, "shop/fulfil")
    page = (await shell.arun("runs", "show", run_id)).stdout
    assert "○ shop/fulfil  ·  waiting\n  waiting: event shop/paid with data.id=7 until " in page
    assert f'  run      {run_id}\n  event    shop/order order-7 {{"id":7}}\n' in page
    assert re.search(r"✓ reserve  step +▌ ", page)
    assert re.search(r"○ paid     event +[╴╶─]", page)


async def test_show_says_when_a_step_is_tried_again(harness: Harness, shell: Shell) -> None:
    await harness.send("shop/flaky")
    page = (await shell.arun("runs", "show", await run_id_of(shell, "shop/flaky"))).stdout
    assert re.search(r"  retry 1 of 2 in (1 min|\d\d s)\n", page)
    assert "attempt 1  ZeroDivisionError: division by zero" in page


async def test_show_of_a_failed_run_ends_with_the_users_stack(harness: Harness, shell: Shell) -> None:
    await harness.send("shop/fails")
    page = (await shell.arun("runs", "show", await run_id_of(shell, "shop/fails"))).stdout
    assert page.rstrip().endswith("taskflow.errors.NonRetriableError: the warehouse is closed")
    assert "test_runs.py" in page
    assert "engine/execution.py" not in page


async def test_show_as_json_has_everything(harness: Harness, shell: Shell) -> None:
    await harness.send("shop/order", {"id": 7})
    await harness.send("shop/paid", {"id": 7})
    shown = (await shell.arun("runs", "show", await run_id_of(shell, "shop/fulfil"), "--json")).json
    assert (shown["status"], shown["output"], shown["event"]["data"]) == ("completed", {"paid": 7}, {"id": 7})
    assert [(step["key"], step["kind"], step["state"], step["attempts"]) for step in shown["steps"]] == [
        ("reserve", "step", "done", 1), ("paid", "event", "done", 0),
    ]  # fmt: skip


async def start(shell: Shell, *arguments: str) -> asyncio.subprocess.Process:
    """A command in a process of its own, whose output can be read while it goes on."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "taskflow", *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **shell.env},
    )  # fmt: skip


async def test_follow_as_json_prints_a_line_at_each_change_until_the_run_ends(
    harness: Harness, shell: Shell
) -> None:
    """S10.7"""
    await harness.send("shop/order", {"id": 7})
    following = await start(
        shell, "runs", "show", (await run_id_of(shell, "shop/fulfil"))[:20], "--follow", "--json"
    )
    assert following.stdout is not None
    first = orjson.loads(await following.stdout.readline())
    await harness.send("shop/paid", {"id": 7})
    rest, stderr = await following.communicate()
    last = orjson.loads(rest.splitlines()[-1])
    assert (following.returncode, stderr) == (0, b"")
    assert (first["status"], last["status"], last["output"]) == ("waiting", "completed", {"paid": 7})


async def test_follow_prints_a_page_below_the_other_where_stdout_is_no_terminal(
    harness: Harness, shell: Shell
) -> None:
    """S10.7"""
    await harness.send("shop/order", {"id": 7})
    following = await start(shell, "runs", "show", await run_id_of(shell, "shop/fulfil"), "--follow", "--all")
    assert following.stdout is not None
    first = (await following.stdout.readline()).decode()
    await harness.send("shop/paid", {"id": 7})
    rest, stderr = await following.communicate()
    assert (following.returncode, stderr) == (0, b"")
    assert first.endswith("shop/fulfil  ·  waiting\n")
    last = rest.decode().split("shop/fulfil  ·  ")[-1]
    assert last.startswith("completed in ")
    assert '"paid": 7' in last


async def test_follow_of_a_run_that_does_not_exist_fails(shell: Shell) -> None:
    missing = await shell.arun("runs", "show", "01ABCDEFGH", "--follow")
    assert (missing.code, missing.stdout) == (1, "")
    assert "there is no run" in missing.stderr


async def test_cancel_ends_a_waiting_run_with_the_reason(harness: Harness, shell: Shell) -> None:
    await harness.send("shop/order", {"id": 7})
    run_id = await run_id_of(shell, "shop/fulfil")
    assert (
        await shell.arun("runs", "cancel", run_id, "--reason", "no more")
    ).stdout == f"{run_id} cancelled\n"
    shown = (await shell.arun("runs", "show", run_id, "--json")).json
    assert (shown["status"], shown["why"]) == ("cancelled", "cancelled: no more")
    again = await shell.arun("runs", "cancel", run_id, "nope")
    assert (again.code, again.stdout) == (1, f"{run_id} had ended before\n")
    assert again.stderr.startswith("taskflow: there is no run nope: check the id")


async def test_cancel_without_a_broker_still_cancels(
    harness: Harness, shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    await harness.send("shop/order", {"id": 7})
    run_id = await run_id_of(shell, "shop/fulfil")
    outcome = await shell.arun("runs", "cancel", run_id, BROKER="redis://127.0.0.1:1", SEND_TIMEOUT="200ms")
    assert (outcome.code, outcome.stdout) == (0, f"{run_id} cancelled\n")
    assert "beat sends them when the broker is back" in caplog.text
    await harness.turn_to(harness.clock.now_ms() + 10_000)  # beat tells what the broker could not be told
    outbox = f"{harness.store.keys.prefix}outbox"
    assert await harness.store.client.call("ZCARD", outbox) == 0


async def test_cancel_of_a_store_alone_asks_for_the_broker(shell: Shell, valkey_url: str) -> None:
    outcome = Shell({}).run("runs", "cancel", "x", "--store", valkey_url)
    assert outcome.code == 2
    assert "give --broker too" in outcome.stderr


async def test_wait_prints_the_result(harness: Harness, shell: Shell) -> None:
    await harness.send("shop/order", {"id": 7})
    waiting = asyncio.create_task(
        shell.arun("runs", "wait", await run_id_of(shell, "shop/fulfil"), "--timeout", "10s")
    )
    await harness.send("shop/paid", {"id": 7})
    outcome = await waiting
    assert (outcome.code, outcome.json) == (0, {"paid": 7})


async def test_wait_for_a_failed_or_cancelled_run_exits_with_1(harness: Harness, shell: Shell) -> None:
    await harness.send("shop/fails")
    run_id = await run_id_of(shell, "shop/fails")
    failed = await shell.arun("runs", "wait", run_id)
    assert (failed.code, failed.stdout) == (1, "")
    assert failed.stderr == f"taskflow: run {run_id} failed: NonRetriableError: the warehouse is closed\n"
    await harness.send("shop/order", {"id": 7})
    other_id = await run_id_of(shell, "shop/fulfil")
    await shell.arun("runs", "cancel", other_id, "--reason", "no more")
    cancelled = await shell.arun("runs", "wait", other_id)
    assert (cancelled.code, cancelled.stderr) == (1, f"taskflow: run {other_id} was cancelled: no more\n")


async def test_wait_in_vain_says_what_the_run_waits_for(harness: Harness, shell: Shell) -> None:
    await harness.send("shop/order", {"id": 7})
    outcome = await shell.arun("runs", "wait", await run_id_of(shell, "shop/fulfil"), "--timeout", "50ms")
    assert outcome.code == 1
    assert " has not ended within 50 ms; waiting: event shop/paid with data.id=7 until " in outcome.stderr


@pytest.mark.parametrize("command", [("show",), ("wait", "--timeout", "1s")])
def test_unknown_run_is_told_in_one_line(shell: Shell, command: tuple[str, ...]) -> None:
    outcome = shell.run("runs", command[0], "01NOPE", *command[1:])
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr == (
        "taskflow: there is no run 01NOPE: check the id; finished runs are removed after the retention\n"
    )


def test_empty_store_has_no_runs(shell: Shell) -> None:
    assert shell.run("runs", "list").stdout == "no runs: no worker has registered a function yet\n"
    assert shell.run("runs", "list", "--json").json == []


async def test_only_workers_that_serve_its_queue_execute_a_function(app: TaskFlow, shell: Shell) -> None:
    from taskflow.worker.child.runner import AppRunner, RunnerOptions

    @app.function(trigger="shop/upload", queue="video")
    async def encode(ctx: Context[Any]) -> None: ...

    worker = AppRunner(app, RunnerOptions(queues=("default",)), child_id="host:1")
    await worker.start()
    try:
        await app.asend("shop/upload")
        async with asyncio.timeout(5):
            while not (runs := (await shell.arun("runs", "list", "--json")).json):
                pass
        (run,) = runs
        assert run["status"] == "queued"
        assert run["why"] == 'queued: no worker serves queue "video" (none gives a sign of life)'
    finally:
        await worker.stop()


async def test_several_statuses_are_listed_together(harness: Harness, shell: Shell) -> None:
    for name in ("shop/quick", "shop/order", "shop/fails"):
        await harness.send(name, {"id": 1})
    outcome = await shell.arun("runs", "list", "--status", "failed", "--status", "completed", "--json")
    assert {run["status"] for run in outcome.json} == {"failed", "completed"}


async def test_function_that_never_was_is_told_with_the_one_that_may_be_meant(
    harness: Harness, shell: Shell
) -> None:
    outcome = await shell.arun("runs", "list", "--function", "shop/fulfill")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr == "taskflow: there is no function 'shop/fulfill'; did you mean 'shop/fulfil'?\n"


async def test_list_says_what_it_leaves_out(harness: Harness, shell: Shell) -> None:
    await harness.send([Event("shop/quick") for _ in range(1_013)])
    outcome = await shell.arun("runs", "list")
    assert outcome.stdout.splitlines()[-1] == "20 of 1,013; --limit shows more, in all 1,013 completed"
    outcome = await shell.arun("runs", "list", "--status", "completed")
    assert outcome.stdout.splitlines()[-1] == "20 of 1,013; --limit shows more, in all 1,013 completed"
    outcome = await shell.arun("runs", "list", "--since", "1h")
    assert outcome.stdout.splitlines()[-1] == "20 of 1,013; --limit shows more"
    outcome = await shell.arun("runs", "list", "--status", "completed", "--since", "1h")
    assert outcome.stdout.splitlines()[-1] == "20; --limit shows more"
    outcome = await shell.arun("runs", "list", "--limit", "2000")
    assert "--limit shows more" not in outcome.stdout


async def test_runs_of_a_function_that_no_worker_has_registered_are_listed(
    app: TaskFlow, shell: Shell
) -> None:
    @app.function()
    async def early(ctx: Context[Any]) -> None: ...

    run = await early.ainvoke()
    (listed,) = (await shell.arun("runs", "list", "--json")).json
    assert (listed["run_id"], listed["status"]) == (run.id, "queued")
    assert listed["why"] == "queued: no worker has registered shop/early"
    row = (await shell.arun("runs", "list")).stdout.splitlines()[1]
    assert "now" in row or "ago" in row


async def test_the_beginning_of_an_id_is_enough_where_it_is_unique(harness: Harness, shell: Shell) -> None:
    await harness.send("shop/order", {"id": 7})
    run_id = await run_id_of(shell, "shop/fulfil")
    for given in (run_id[:14], run_id[:20].lower(), run_id[:-2]):
        assert (await shell.arun("runs", "show", given, "--json")).json["run_id"] == run_id
    await harness.send([Event("shop/quick"), Event("shop/quick")])
    outcome = await shell.arun("runs", "show", run_id[:8])
    assert outcome.code == 1
    assert f"{run_id[:8]!r} begins the ids of " in outcome.stderr
    assert "give more of the id" in outcome.stderr
    outcome = await shell.arun("runs", "cancel", run_id[:-2])
    assert outcome.stdout == f"{run_id} cancelled\n"
    outcome = await shell.arun("runs", "show", run_id[:5])
    assert outcome.stderr == (
        f"taskflow: '{run_id[:5]}' may begin the ids of many runs: give at least 6 characters of the id\n"
    )
    new = (await shell.arun("runs", "rerun", run_id[:-2], "--json")).json
    assert new["rerun_of"] == run_id


async def test_large_outputs_are_cut_with_a_mark_that_says_how_to_see_all(
    harness: Harness, app: TaskFlow, shell: Shell
) -> None:
    @app.function(id="wide")
    async def wide(ctx: Context[Any]) -> list[str]:
        return ["x" * 50 for _ in range(2_000)]

    run = await wide.ainvoke()
    await harness.settled()
    page = (await shell.arun("runs", "show", run.id)).stdout
    assert len(page) < 10_000
    assert re.search(r"… \(11\d,\d{3} characters in all; --all shows it\)", page)
    assert len((await shell.arun("runs", "show", run.id, "--all")).stdout) > 100_000
    assert len((await shell.arun("runs", "show", run.id, "--json")).json["output"]) == 2_000
