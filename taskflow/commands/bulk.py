"""`taskflow bulk`: lists, shows, follows and stops bulk operations, which beat carries on. Rule S14.6."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

import click

from taskflow.commands.options import (
    connection_options,
    find_target,
    json_option,
    limit_option,
    open_control,
    print_json,
    run,
)
from taskflow.runs.bulk import BulkRequest, BulkView
from taskflow.runs.control import RunControl
from taskflow.terminal.screen import Cell, Screen, plain
from taskflow.values.ids import new_ulid
from taskflow.values.text import printable
from taskflow.values.times import date_and_time

LARGE = 1_000  # runs beyond which `runs cancel` and `replay` leave the work to beat
LOOK_EVERY_S = 0.5
HEADER = ("bulk", "what", "asked", "by", "runs", "done", "failed", "is")


@click.group("bulk")
def command() -> None:
    """List, show and stop bulk operations, which `runs cancel`, `replay` and the web begin."""


@command.command("list")
@limit_option(1_000)
@connection_options
@json_option
def list_command(
    limit: int, app: str | None, store: str | None, broker: str | None, namespace: str | None, as_json: bool
) -> None:
    """List bulk operations, newest first."""

    async def read() -> list[BulkView]:
        async with open_control(target) as control:
            return await control.bulks(limit=limit)

    target = find_target(app, store, broker, namespace)
    found = run(read())
    if as_json:
        print_json([each.to_json() for each in found])
        return
    screen = Screen.of_stdout()
    if not found:
        screen.print_line(plain("no bulk operations", "dim"))
        return
    screen.table([row(each) for each in found], header=HEADER, right=(4, 5, 6))


def row(bulk: BulkView) -> list[Cell]:
    return [
        plain(bulk.id),
        plain(what(bulk.request)),
        plain(date_and_time(bulk.request.created_ms)),
        plain(printable(bulk.request.who)),
        *[plain(f"{count:,}") for count in (bulk.request.total, bulk.done, bulk.failed)],
        plain(bulk.status, "" if bulk.status == "completed" else "warn"),
    ]


def what(request: BulkRequest) -> str:
    """What is done, in words: "cancel queued, running of shop/fulfil if event.data.total > 100"."""
    whose = "all functions" if request.functions is None else ", ".join(request.functions[:3])
    more = "" if request.functions is None or len(request.functions) <= 3 else " and others"
    condition = "" if request.if_exp is None else f" if {printable(request.if_exp)}"
    return f"{request.action} {', '.join(request.statuses)} of {whose}{more}{condition}"


@command.command("show")
@click.argument("bulk_id")
@connection_options
@json_option
def show_command(
    bulk_id: str, app: str | None, store: str | None, broker: str | None, namespace: str | None, as_json: bool
) -> None:
    """Show a bulk operation: what it does, who asked for it, and how far it is."""

    async def read() -> BulkView:
        async with open_control(target) as control:
            return await control.bulk(bulk_id)

    target = find_target(app, store, broker, namespace)
    bulk = run(read())
    if as_json:
        print_json(bulk.to_json())
        return
    request = bulk.request
    click.echo(f"{bulk.id}  {bulk.status}: {progress(bulk)}")
    click.echo(what(request))
    click.echo(
        f"asked by {printable(request.who)} at {date_and_time(request.created_ms)}: {printable(request.reason)}"
    )
    for problem in bulk.problems:
        click.echo(f"failed: {printable(problem)}")


def progress(bulk: BulkView) -> str:
    failed = f", {bulk.failed:,} failed" if bulk.failed else ""
    return f"{bulk.done:,} of {bulk.request.total:,} done{failed}"


@command.command("stop")
@click.argument("bulk_id")
@connection_options
@json_option
def stop_command(
    bulk_id: str, app: str | None, store: str | None, broker: str | None, namespace: str | None, as_json: bool
) -> None:
    """Stop a bulk operation. What it has done stays done."""

    async def stop() -> tuple[bool, BulkView]:
        async with open_control(target) as control:
            return await control.stop_bulk(bulk_id), await control.bulk(bulk_id)

    target = find_target(app, store, broker, namespace)
    was_running, bulk = run(stop())
    if as_json:
        print_json({"id": bulk_id, "was_running": was_running})
    else:
        click.echo(f"{bulk_id} {'is stopped' if was_running else 'had ended before'}: {progress(bulk)}")


# --- for the commands that begin one ---


async def can_carry_on(control: RunControl) -> bool:
    """Whether a beat leads, which would do the work."""
    async with control.session.deadline() as store:
        return await store.history.leader(control.clock.now_ms()) is not None


async def start_and_follow(control: RunControl, request: BulkRequest, total: int) -> BulkView:
    """Begin the operation, and show how far it is until it has ended. It goes on if this process ends."""
    bulk = await control.start_bulk(new_ulid(request.created_ms), replace(request, total=total))
    click.echo(f"bulk {bulk.id}: beat does it, whether or not this command goes on", err=True)
    with click.progressbar(length=total, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        while bulk.status == "running":
            await asyncio.sleep(LOOK_EVERY_S)
            bulk = await control.bulk(bulk.id)
            bar.update(bulk.looked - bar.pos)
    return bulk


def asker() -> str:
    """Who asks, for a record."""
    # Imported here: it takes a millisecond, and few ask.
    import getpass

    return f"{getpass.getuser()} on the command line"
