"""`taskflow runs cancel`: runs by their ids, or all that match. Rules S6.1, S6.2."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

import click

from taskflow.app import TaskFlow
from taskflow.commands.options import (
    Target,
    check_broker_is_known,
    connection_options,
    find_target,
    full_function_id,
    json_option,
    open_store,
    print_json,
    run,
)
from taskflow.commands.replay import parse_past_option
from taskflow.errors import RunNotFound
from taskflow.runs.cancel import LIVE, count_live, select_live
from taskflow.runs.lookup import registered_functions
from taskflow.runs.selection import Selection

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

Plan: TypeAlias = tuple[TaskFlow, Selection]

OUTCOMES = {
    "cancelled": "cancelled",
    "cancelling": "is cancelled once its running steps have ended",
    "ended": "had ended before",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """Which runs to cancel in bulk; what is None or empty does not narrow it."""

    function: str | None
    statuses: tuple[str, ...]
    since: str | None
    until: str | None
    if_exp: str | None

    @property
    def are_any(self) -> bool:
        return any((self.function, self.statuses, self.since, self.until, self.if_exp))


def parse_live_statuses(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """A callback: statuses of live runs, separated by commas."""
    if value is None:
        return ()
    statuses = tuple(name.strip() for name in value.split(",") if name.strip())
    if not statuses or not LIVE.issuperset(statuses):
        raise click.BadParameter(
            f"expected some of {', '.join(sorted(LIVE))}, separated by commas, got {value!r}"
        )
    return statuses


@click.command("cancel")
@click.argument("run_ids", metavar="[RUN_ID...]", nargs=-1)
@click.option("--function", metavar="ID", help="All live runs of this function: app/function.")
@click.option(
    "--status", "statuses", metavar="S,S", callback=parse_live_statuses, help="All that are queued, ..."
)
@click.option(
    "--since", metavar="TIME", callback=parse_past_option, help="Made since: 1d, 2h30m, or a date and time."
)
@click.option("--until", metavar="TIME", callback=parse_past_option, help="Made until.")
@click.option("--if", "if_exp", metavar="CEL", help="Whose event meets it: 'event.data.total > 100'.")
@click.option("--dry-run", is_flag=True, help="Only tell how many it would be.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option(
    "--reason", default="cancelled from the command line", show_default=True, help="Kept with the runs."
)
@connection_options
@json_option
def cancel_command(
    run_ids: tuple[str, ...], function: str | None, statuses: tuple[str, ...], since: str | None, until: str | None,
    if_exp: str | None, dry_run: bool, yes: bool, reason: str, app: str | None, store: str | None, broker: str | None,
    namespace: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Cancel runs: at once, or when their running steps have ended.

    Name runs, or say by options which; options narrow each other. Exit code 1 when a run that is named is unknown.

    \b
    taskflow runs cancel 01M7YF4F60G68Y8SVB43M6WE0A-kytgrs
    taskflow runs cancel --function shop/fulfil --status queued --since 1h
    """
    wishes = Wishes(function=function, statuses=statuses, since=since, until=until, if_exp=if_exp)
    if bool(run_ids) == wishes.are_any or (run_ids and dry_run):
        raise click.UsageError("name runs, or say which by --function, --status, --since, --until or --if")
    check_broker_is_known(app, store, broker, "workers are told of cancelled runs")
    if not run_ids and not (dry_run or yes) and not sys.stdin.isatty():
        raise click.UsageError(
            "nobody is there to ask: give --yes, or --dry-run to see how many runs it would be"
        )
    target = find_target(app, store, broker, namespace)
    if run_ids:
        report_named(run(cancel_named(target, run_ids, reason)), as_json)
        return
    found, cancelled = run(cancel_matching(target, wishes, reason, is_dry=dry_run, asks=not yes))
    if as_json:
        print_json({"found": found, "cancelled": cancelled or 0})
    elif cancelled is None:
        click.echo(f"{found:,} runs would be cancelled" if found else "no such runs")
    else:
        click.echo(f"{cancelled:,} runs cancelled; those that execute end after their running steps")


# --- runs that are named ---


async def cancel_named(target: Target, run_ids: tuple[str, ...], reason: str) -> dict[str, str]:
    """What each came to: a key of OUTCOMES, or "unknown"."""
    outcomes: dict[str, str] = {}
    async with open_store(target) as (opened, _):
        for run_id in run_ids:
            (function,) = await opened.history.fields(run_id, "function")
            if function is None:
                outcomes[run_id] = "unknown"
                continue
            outcomes[run_id] = await cancel_one(target.app_for(app_of(function.decode())), run_id, reason)
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


def report_named(outcomes: dict[str, str], as_json: bool) -> None:
    if as_json:
        print_json([{"run_id": run_id, "outcome": outcome} for run_id, outcome in outcomes.items()])
    for run_id, outcome in outcomes.items():
        if outcome == "unknown":
            click.echo(f"taskflow: there is no run {run_id}", err=True)
        elif not as_json:
            click.echo(f"{run_id} {OUTCOMES[outcome]}")
    if "unknown" in outcomes.values():
        raise click.exceptions.Exit(1)


# --- all that match ---


async def cancel_matching(
    target: Target, wishes: Wishes, reason: str, *, is_dry: bool, asks: bool
) -> tuple[int, int | None]:
    """How many runs were found, and how many of them cancelled; None when none was to be."""
    plans = await plan(target, wishes)
    try:
        found = sum([await count_live(app.session(), selection) for app, selection in plans])
        if is_dry or not found:
            return found, None
        if asks:
            click.confirm(f"Cancel {found:,} runs?", abort=True, err=True)
        return found, await with_progress(plans, found, reason)
    finally:
        for app, _ in plans:
            await app.aclose()


async def plan(target: Target, wishes: Wishes) -> list[Plan]:
    """What to cancel, and in the name of which app. Raises ConfigError for a function that never was."""
    async with open_store(target) as (opened, moment):
        functions = await registered_functions(opened) if wishes.function is None else []
    if wishes.function is not None:
        functions = [await check_function(target, full_function_id(target, wishes.function))]
    return [
        (
            target.app_for(app_id),
            select_live(
                list(own), status=wishes.statuses or None, since=wishes.since, until=wishes.until, if_exp=wishes.if_exp,
                now_ms=moment.now_ms,
            ),
        )
        for app_id, own in groupby(sorted(functions), key=app_of)
    ]  # fmt: skip


async def check_function(target: Target, function_id: str) -> str:
    app = target.app_for(app_of(function_id))
    try:
        await app.functions_with_runs(function_id)
    finally:
        await app.aclose()
    return function_id


async def with_progress(plans: Sequence[Plan], found: int, reason: str) -> int:
    """Cancel, with a bar on a terminal; how many."""
    if not sys.stderr.isatty():
        return sum([await app.cancel_selected(selection, reason=reason) for app, selection in plans])
    count = 0
    with click.progressbar(length=found, file=sys.stderr) as bar:
        for app, selection in plans:
            count += await app.cancel_selected(
                selection, reason=reason, on_progress=partial(advance, bar, bar.pos)
            )
    return count


def advance(bar: ProgressBar[int], before: int, done: int) -> None:
    """Move the bar to `done` of a part that began at `before`."""
    bar.update(before + done - bar.pos)


def app_of(function_id: str) -> str:
    return function_id.partition("/")[0]
