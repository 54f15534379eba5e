"""`taskflow runs cancel`: cancels runs by their ids, or all runs that match. Rules S6.1, S6.2."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from taskflow.commands.bulk import LARGE, asker, can_carry_on, start_and_follow
from taskflow.commands.options import (
    Target,
    check_broker_is_known,
    connection_options,
    find_target,
    full_function_id,
    json_option,
    open_control,
    print_json,
    run,
)
from taskflow.commands.replay import parse_past_option
from taskflow.errors import RunNotFound
from taskflow.runs.bulk import BulkAction, BulkRequest
from taskflow.runs.cancel import count_live, select_live
from taskflow.runs.control import Cancelled, RunControl
from taskflow.runs.selection import LIVE, Selection
from taskflow.values.record import record
from taskflow.values.text import printable

OUTCOMES = {
    Cancelled.CANCELLED.value: "cancelled",
    Cancelled.CANCELLING.value: "is cancelled once its running steps have ended",
    Cancelled.ENDED.value: "had ended before",
}


@record(kw_only=True)
class Wishes:
    """The options that say which runs to cancel in bulk; an option that is None or empty does not narrow the choice."""

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
@click.option("--function", metavar="ID", help="Only runs of this function: app/function.")
@click.option(
    "--status", "statuses", metavar="S,S", callback=parse_live_statuses, help="Only runs with these statuses."
)
@click.option(
    "--since",
    metavar="TIME",
    callback=parse_past_option,
    help="Only runs made since: 1d (a day ago), 2h30m, or a date and time.",
)
@click.option("--until", metavar="TIME", callback=parse_past_option, help="Only runs made before this.")
@click.option(
    "--if", "if_exp", metavar="CEL", help="Only runs whose event meets it: 'event.data.total > 100'."
)
@click.option("--dry-run", is_flag=True, help="Only say how many runs it concerns.")
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
    """Cancel these runs. Returns for each a key of OUTCOMES, or why the run was not found."""
    outcomes: dict[str, str] = {}
    async with open_control(target) as control:
        for run_id in run_ids:
            try:
                whole_id = await control.whole_run_id(run_id)
                outcomes[whole_id] = (await control.cancel(whole_id, reason)).value
            except RunNotFound as error:
                outcomes[run_id] = str(error)
    return outcomes


def report_named(outcomes: dict[str, str], as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {"run_id": run_id, "outcome": outcome if outcome in OUTCOMES else "unknown"}
                for run_id, outcome in outcomes.items()
            ]
        )
    for run_id, outcome in outcomes.items():
        if outcome not in OUTCOMES:
            click.echo(f"taskflow: {printable(outcome)}", err=True)
        elif not as_json:
            click.echo(f"{run_id} {OUTCOMES[outcome]}")
    if not set(outcomes.values()) <= set(OUTCOMES):
        raise click.exceptions.Exit(1)


# --- all that match ---


async def cancel_matching(
    target: Target, wishes: Wishes, reason: str, *, is_dry: bool, asks: bool
) -> tuple[int, int | None]:
    """Cancel all runs that match. Returns how many were found, and how many were cancelled (None for a dry run or a "no")."""
    async with open_control(target) as control:
        selection = await select(target, control, wishes)
        found = await count_live(control.session, selection)
        if is_dry or not found:
            return found, None
        if asks:
            click.confirm(f"Cancel {found:,} runs?", abort=True, err=True)
        if found > LARGE and await can_carry_on(control):
            request = BulkRequest.plan(
                BulkAction.CANCEL, selection.functions if wishes.function else None, statuses=selection.statuses,
                since_ms=selection.since_ms, until_ms=selection.until_ms, if_exp=wishes.if_exp, reason=reason, who=asker(),
                now_ms=control.clock.now_ms(),
            )  # fmt: skip
            return found, (await start_and_follow(control, request, found)).done
        return found, await with_progress(control, selection, found, reason)


async def select(target: Target, control: RunControl, wishes: Wishes) -> Selection:
    """The selection of runs to cancel. Raises ConfigError for a function that never was."""
    if wishes.function is None:
        functions = await control.functions()
    else:
        functions = [full_function_id(target, wishes.function)]
        await control.check_function(functions[0])
    return select_live(
        functions, status=wishes.statuses or None, since=wishes.since, until=wishes.until, if_exp=wishes.if_exp,
        now_ms=control.clock.now_ms(),
    )  # fmt: skip


async def with_progress(control: RunControl, selection: Selection, found: int, reason: str) -> int:
    """Cancel the runs, with a progress bar on a terminal; return how many."""
    if not sys.stderr.isatty():
        return await control.cancel_runs(selection, reason=reason)
    with click.progressbar(length=found, file=sys.stderr) as bar:
        advance: Callable[[int], object] = lambda done: bar.update(done - bar.pos)  # noqa: E731
        return await control.cancel_runs(selection, reason=reason, on_progress=advance)
