"""`taskflow runs`: list, show, cancel, wait."""

from __future__ import annotations

import asyncio
import os

import click

from taskflow.app import TaskFlow
from taskflow.cli import Failure
from taskflow.commands.options import (
    Target,
    connection_options,
    find_target,
    json_option,
    open_store,
    parse_duration_option,
    print_json,
    run,
)
from taskflow.durations import format_duration
from taskflow.errors import RunNotFound, TaskFlowError
from taskflow.handle import RunStatus
from taskflow.rendering import Screen, plain
from taskflow.run_lookup import find_run, recent_runs, registered_functions
from taskflow.run_page import LIST_HEADER, list_row, run_page

OUTCOMES = {
    "cancelled": "cancelled",
    "cancelling": "is cancelled once its running steps have ended",
    "ended": "had ended before",
}


@click.group("runs")
def command() -> None:
    """List, show, cancel and await runs."""


@command.command("list")
@click.option("--function", "function_id", metavar="ID", help="Only of this function: app/function.")
@click.option("--status", type=click.Choice([status.value for status in RunStatus]), help="Only those.")
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="At most so many.",
)
@click.option(
    "--since", metavar="DURATION", callback=parse_duration_option, help="Created in the last 1h30m, 2d, ..."
)
@connection_options
@json_option
def list_command(
    function_id: str | None, status: str | None, limit: int, since: int | None, app: str | None, store: str | None,
    broker: str | None, namespace: str | None, as_json: bool,
) -> None:  # fmt: skip
    """List runs, newest first."""
    target = find_target(app, store, broker, namespace)

    async def look() -> None:
        async with open_store(target) as (opened, moment):
            functions = [function_id] if function_id else await registered_functions(opened)
            since_ms = None if since is None else moment.now_ms - since
            found = await recent_runs(
                opened, functions, limit=limit, moment=moment, status=status, since_ms=since_ms
            )
        if as_json:
            print_json([one.summary_json(moment.now_ms) for one in found])
            return
        screen = Screen.of_stdout()
        if not found:
            screen.print_line(
                plain("no runs" if functions else "no runs: no worker has registered a function yet", "dim")
            )
            return
        screen.table([list_row(one, moment.now_ms) for one in found], header=LIST_HEADER, right=(4,))

    run(look())


@command.command("show")
@click.argument("run_id")
@connection_options
@json_option
def show_command(
    run_id: str, app: str | None, store: str | None, broker: str | None, namespace: str | None, as_json: bool
) -> None:
    """Show a run: what it is, its steps as a timeline, what it waits for, how it ended."""
    target = find_target(app, store, broker, namespace)

    async def look() -> None:
        async with open_store(target) as (opened, moment):
            found = await find_run(opened, run_id, moment)
        if as_json:
            print_json(found.to_json(moment.now_ms))
            return
        screen = Screen.of_stdout()
        screen.print(run_page(found, now_ms=moment.now_ms, width=screen.width))

    run(look())


@command.command("cancel")
@click.argument("run_ids", metavar="RUN_ID...", nargs=-1, required=True)
@click.option(
    "--reason", default="cancelled from the command line", show_default=True, help="Kept with the run."
)
@connection_options
@json_option
def cancel_command(
    run_ids: tuple[str, ...], reason: str, app: str | None, store: str | None, broker: str | None,
    namespace: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Cancel runs: at once, or when their running steps have ended. Exit code 1 when there is no such run."""
    if store and not (app or broker or os.environ.get("TASKFLOW_BROKER")):
        raise click.UsageError("workers are told of a cancelled run over the broker: give --broker too")
    target = find_target(app, store, broker, namespace)
    outcomes = run(cancel_all(target, run_ids, reason))
    if as_json:
        print_json([{"run_id": run_id, "outcome": outcome} for run_id, outcome in outcomes.items()])
    for run_id, outcome in outcomes.items():
        if outcome == "unknown":
            click.echo(f"taskflow: there is no run {run_id}", err=True)
        elif not as_json:
            click.echo(f"{run_id} {OUTCOMES[outcome]}")
    if "unknown" in outcomes.values():
        raise click.exceptions.Exit(1)


async def cancel_all(target: Target, run_ids: tuple[str, ...], reason: str) -> dict[str, str]:
    """What each came to: a key of OUTCOMES, or "unknown"."""
    outcomes: dict[str, str] = {}
    async with open_store(target) as (opened, _):
        for run_id in run_ids:
            (function,) = await opened.history.fields(run_id, "function")
            if function is None:
                outcomes[run_id] = "unknown"
                continue
            outcomes[run_id] = await cancel_one(
                target.app_for(function.decode().partition("/")[0]), run_id, reason
            )
    return outcomes


async def cancel_one(app: TaskFlow, run_id: str, reason: str) -> str:
    try:
        if not await app.cancel_run(run_id, reason):
            return "ended"
        (status,) = await app.run_fields(run_id, "status")
        return "cancelled" if status == b"cancelled" else "cancelling"
    except RunNotFound:
        return "unknown"
    finally:
        await app.aclose()


@command.command("wait")
@click.argument("run_id")
@click.option(
    "--timeout",
    "timeout_ms",
    metavar="DURATION",
    callback=parse_duration_option,
    help="Give up then; 30s, 5m.",
)
@connection_options
def wait_command(
    run_id: str,
    timeout_ms: int | None,
    app: str | None,
    store: str | None,
    broker: str | None,
    namespace: str | None,
) -> None:
    """Wait for the end of a run and print its result as JSON.

    Exit code 0 when it completed, 1 when it failed, was cancelled, or is not through in time.
    """
    target = find_target(app, store, broker, namespace)
    print_json(run(wait_for(target, run_id, timeout_ms)))


async def wait_for(target: Target, run_id: str, timeout_ms: int | None) -> object:
    reader = target.app_for(target.app.id if target.app else target.config.app_id)
    try:
        return await reader.run(run_id).aresult(None if timeout_ms is None else timeout_ms / 1000)
    except TimeoutError:
        raise Failure(await timeout_text(target, run_id, timeout_ms or 0)) from None
    finally:
        await reader.aclose()


async def timeout_text(target: Target, run_id: str, timeout_ms: int) -> str:
    """What to say of a run that is not through in time."""
    text = f"run {run_id} has not ended within {format_duration(timeout_ms)}"
    try:
        async with asyncio.timeout(2), open_store(target) as (opened, moment):
            found = await find_run(opened, run_id, moment)
    except (TaskFlowError, TimeoutError):
        return text
    return f"{text}; {found.why or found.status}"
