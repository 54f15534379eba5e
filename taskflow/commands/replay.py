"""`taskflow replay`: reruns the runs of a function that failed, were cancelled or were skipped. Rule S10.3."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from taskflow.commands.bulk import LARGE, asker, can_carry_on, start_and_follow
from taskflow.commands.durations import parse_duration_option
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
from taskflow.errors import InvalidDuration
from taskflow.run import FINAL
from taskflow.runs.bulk import BulkAction, BulkRequest
from taskflow.runs.control import RunControl
from taskflow.runs.replay import REPLAYED, ReplayRequest, plan_replay
from taskflow.runs.selection import parse_past_ms
from taskflow.values.clock import SystemClock
from taskflow.values.record import record


@record(kw_only=True)
class Wishes:
    """The options of the command."""

    since: str
    until: str | None
    statuses: tuple[str, ...]
    if_exp: str | None
    over_ms: int
    replay_id: str | None
    is_dry: bool
    asks: bool  # whether to ask before it replays


@record
class Outcome:
    """The outcome of a replay: how many runs were found, and how many reruns were made (None for a dry run or a "no")."""

    replay_id: str
    found: int
    made: int | None


def parse_past_option(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A click callback that checks a time in the past."""
    if value is not None:
        try:
            parse_past_ms(value, now_ms=SystemClock().now_ms(), what="it")
        except InvalidDuration as error:
            raise click.BadParameter(str(error)) from None
    return value


def parse_statuses(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """A click callback that parses final statuses, separated by commas."""
    statuses = tuple(name.strip() for name in value.split(",") if name.strip())
    unknown = set(statuses) - set(FINAL)
    if unknown or not statuses:
        raise click.BadParameter(
            f"expected some of {', '.join(sorted(FINAL))}, separated by commas, got {value!r}"
        )
    return statuses


@click.command("replay")
@click.argument("function")
@click.option(
    "--since",
    required=True,
    metavar="TIME",
    callback=parse_past_option,
    help="Only runs made since: 1d (a day ago), 2h30m, or a date and time.",
)
@click.option(
    "--until", metavar="TIME", callback=parse_past_option, help="Only runs made before this; now by default."
)
@click.option(
    "--status",
    "statuses",
    metavar="S,S",
    default=",".join(REPLAYED),
    show_default=True,
    callback=parse_statuses,
    help="Only runs with these statuses.",
)
@click.option(
    "--if", "if_exp", metavar="CEL", help="Only runs whose event meets it: 'event.data.total > 100'."
)
@click.option(
    "--over",
    "over_ms",
    metavar="DURATION",
    default="0",
    callback=parse_duration_option,
    help="Spread the starts over this time: 10m, 1h.",
)
@click.option("--replay-id", metavar="ID", help="Go on with a replay that was broken off.")
@click.option("--dry-run", is_flag=True, help="Only say how many runs it concerns.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@connection_options
@json_option
def command(
    function: str, since: str, until: str | None, statuses: tuple[str, ...], if_exp: str | None, over_ms: int,
    replay_id: str | None, dry_run: bool, yes: bool, app: str | None, store: str | None, broker: str | None,
    namespace: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Rerun the runs of FUNCTION, app/function, that failed, were cancelled or skipped.

    Each gets a new run with its event. Those that were rerun before are left out.

    \b
    taskflow replay shop/fulfil --since 1d --status failed --over 10m
    """
    check_broker_is_known(app, store, broker, "workers are told of ready runs")
    if not (dry_run or yes) and not sys.stdin.isatty():
        raise click.UsageError(
            "nobody is there to ask: give --yes, or --dry-run to see how many runs it would be"
        )
    target = find_target(app, store, broker, namespace)
    function_id = full_function_id(target, function)
    wishes = Wishes(
        since=since, until=until, statuses=statuses, if_exp=if_exp, over_ms=over_ms, replay_id=replay_id, is_dry=dry_run,
        asks=not yes,
    )  # fmt: skip
    outcome = run(replay(target, function_id, wishes))
    if as_json:
        print_json(
            {
                "function": function_id,
                "replay_id": outcome.replay_id,
                "found": outcome.found,
                "made": outcome.made or 0,
            }
        )
    elif outcome.made is not None:
        click.echo(f"{outcome.made:,} runs of {function_id} run anew")
    elif outcome.found == 0:
        click.echo(f"no such runs of {function_id}")
    else:
        click.echo(f"{outcome.found:,} runs of {function_id} would run anew")


async def replay(target: Target, function_id: str, wishes: Wishes) -> Outcome:
    async with open_control(target) as control:
        request = plan_replay(
            await control.spec(function_id), since=wishes.since, until=wishes.until, status=wishes.statuses,
            if_exp=wishes.if_exp, over=wishes.over_ms / 1000, replay_id=wishes.replay_id, now_ms=control.clock.now_ms(),
        )  # fmt: skip
        found = await control.find_replayed(request)
        if wishes.is_dry or not found:
            return Outcome(request.replay_id, len(found), None)
        if wishes.asks:
            click.confirm(f"Run {len(found):,} runs of {function_id} anew?", abort=True, err=True)
        if len(found) > LARGE and wishes.replay_id is None and await can_carry_on(control):
            chosen = request.selection
            asked = BulkRequest.plan(
                BulkAction.RERUN, chosen.functions, statuses=chosen.statuses, since_ms=chosen.since_ms,
                until_ms=chosen.until_ms, if_exp=wishes.if_exp, over_ms=wishes.over_ms, reason="replay", who=asker(),
                now_ms=control.clock.now_ms(),
            )  # fmt: skip
            bulk = await start_and_follow(control, asked, len(found))
            return Outcome(bulk.id, len(found), bulk.done)
        click.echo(f"replay {request.replay_id}: to go on with it after a crash, give --replay-id", err=True)
        return Outcome(request.replay_id, len(found), await with_progress(control, request, found))


async def with_progress(control: RunControl, request: ReplayRequest, found: list[str]) -> int:
    """Replay the runs, with a progress bar on a terminal; return how many."""
    if not sys.stderr.isatty():
        return await control.replay(request, found)
    with click.progressbar(length=len(found), file=sys.stderr) as bar:
        advance: Callable[[int], object] = lambda done: bar.update(done - bar.pos)  # noqa: E731
        return await control.replay(request, found, on_progress=advance)
