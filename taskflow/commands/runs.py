"""`taskflow runs`: lists, shows, cancels, reruns and awaits runs."""

from __future__ import annotations

from contextlib import aclosing

import click
import orjson

from taskflow.cli import Failure
from taskflow.commands.cancel import cancel_command
from taskflow.commands.durations import parse_duration_option
from taskflow.commands.options import (
    Target,
    connection_options,
    find_target,
    full_function_id,
    json_option,
    limit_option,
    look,
    print_json,
    run,
)
from taskflow.commands.rerun import rerun_command
from taskflow.run import Run, RunStatus, RunView
from taskflow.runs.lookup import FoundRuns, check_known, find_run, recent_runs, whole_run_id
from taskflow.runs.reasons import Moment
from taskflow.store.store import Store
from taskflow.terminal.run_page import LIST_HEADER, list_row, run_page
from taskflow.terminal.screen import Screen, plain
from taskflow.types import RunId
from taskflow.values.clock import SystemClock


@click.group("runs")
def command() -> None:
    """List, show, cancel, rerun and await runs."""


command.add_command(cancel_command)
command.add_command(rerun_command)


@command.command("list")
@click.option("--function", "function_id", metavar="ID", help="Only of this function: app/function.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([status.value for status in RunStatus]),
    help="Only runs with this status; may be given several times.",
)
@limit_option(10_000)
@click.option(
    "--since", metavar="DURATION", callback=parse_duration_option, help="Created in the last 1h30m, 2d, ..."
)
@connection_options
@json_option
def list_command(
    function_id: str | None, statuses: tuple[str, ...], limit: int, since: int | None, app: str | None, store: str | None,
    broker: str | None, namespace: str | None, as_json: bool,
) -> None:  # fmt: skip
    """List runs, newest first."""
    target = find_target(app, store, broker, namespace)

    async def read(opened: Store, moment: Moment) -> tuple[bool, FoundRuns]:
        functions = None if function_id is None else [full_function_id(target, function_id)]
        if functions is not None:
            await check_known(opened, functions[0])
        since_ms = None if since is None else moment.now_ms - since
        found = await recent_runs(
            opened, functions, limit=limit, moment=moment, statuses=statuses, since_ms=since_ms
        )
        return bool(found.runs or functions or await opened.registry.known_functions()), found

    (are_functions, found), moment = look(target, read)
    if as_json:
        print_json([one.summary_json(moment.now_ms) for one in found.runs])
        return
    screen = Screen.of_stdout()
    if not found.runs:
        screen.print_line(
            plain("no runs" if are_functions else "no runs: no worker has registered a function yet", "dim")
        )
        return
    screen.table([list_row(one, moment.now_ms) for one in found.runs], header=LIST_HEADER, right=(4,))
    shown = f"{len(found.runs):,}" + ("" if found.total is None else f" of {found.total:,}")
    more = [f"{shown}; --limit shows more"] if found.next else []
    in_all = [f"in all {found.counts}"] if found.counts else []
    if more or in_all:
        screen.print_line(plain(", ".join([*more, *in_all]), "dim"))


@command.command("show", short_help="Show a run: its steps, what it waits for, how it ended.")
@click.argument("run_id")
@click.option("--all", "is_whole", is_flag=True, help="Show every step, and the whole output and error.")
@click.option("--follow", "follows", is_flag=True, help="Show the run again at each change, until it ends.")
@connection_options
@json_option
def show_command(
    run_id: str,
    is_whole: bool,
    follows: bool,
    app: str | None,
    store: str | None,
    broker: str | None,
    namespace: str | None,
    as_json: bool,
) -> None:
    """Show a run: what it is, its steps as a timeline, what it waits for, how it ended. The beginning of its id is enough.

    With --follow the page is drawn anew at each change. Where stdout is no terminal, each page follows the last; with --json each
    change is a line.
    """
    target = find_target(app, store, broker, namespace)
    if follows:
        run(follow(target, run_id, is_whole=is_whole, as_json=as_json))
        return

    async def read(opened: Store, moment: Moment) -> RunView:
        return await find_run(opened, await whole_run_id(opened, run_id), moment)

    found, moment = look(target, read)
    if as_json:
        print_json(found.to_json(moment.now_ms))
        return
    screen = Screen.of_stdout()
    screen.print(run_page(found, now_ms=moment.now_ms, width=screen.width, is_whole=is_whole))


async def follow(target: Target, run_id: str, *, is_whole: bool, as_json: bool) -> None:
    """Print the run at each of its changes, until it ends. Rule S10.7."""
    clock = SystemClock()
    connections = target.connections(clock=clock)
    screen = Screen.of_stdout()
    try:
        async with connections.session().deadline() as store:
            await store.correct(clock)
            whole_id = await whole_run_id(store, run_id)
        async with aclosing(connections.watch_run(whole_id)) as views:
            async for view in views:
                now_ms = clock.now_ms()
                if as_json:
                    click.echo(orjson.dumps(view.to_json(now_ms)))
                else:
                    screen.clear()
                    screen.print(run_page(view, now_ms=now_ms, width=screen.width, is_whole=is_whole))
                    screen.stream.flush()
    finally:
        await connections.aclose()


@command.command("wait")
@click.argument("run_id")
@click.option(
    "--timeout",
    "timeout_ms",
    metavar="DURATION",
    callback=parse_duration_option,
    help="How long to wait: 30s, 5m.",
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

    Exit code 0 when it completed, 1 when it failed, was cancelled, or has not ended in time.
    """
    target = find_target(app, store, broker, namespace)
    print_json(run(wait_for(target, run_id, timeout_ms)))


async def wait_for(target: Target, run_id: str, timeout_ms: int | None) -> object:
    connections = target.connections()
    try:
        async with connections.session().deadline() as store:
            whole_id = await whole_run_id(store, run_id)
        run: Run = Run(RunId(whole_id), connections)
        return await run.aresult(None if timeout_ms is None else timeout_ms / 1000)
    except TimeoutError as error:
        raise Failure(str(error)) from None
    finally:
        await connections.aclose()
