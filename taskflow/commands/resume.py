"""`taskflow resume`: lets the runs of a paused function go on. Rule S10.4."""

from __future__ import annotations

import click

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
from taskflow.runs.control import Resumed


@click.command("resume")
@click.argument("function")
@click.option("--replay-skipped", is_flag=True, help="Run what was skipped while it was paused.")
@connection_options
@json_option
def command(
    function: str, replay_skipped: bool, app: str | None, store: str | None, broker: str | None, namespace: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Resume FUNCTION, app/function: its runs begin and go on again."""
    check_broker_is_known(app, store, broker, "workers are told of ready runs")
    target = find_target(app, store, broker, namespace)
    function_id = full_function_id(target, function)
    resumed = run(resume(target, function_id, replay_skipped))
    if as_json:
        print_json({"function": function_id, "was_paused": resumed.was_paused, "replayed": resumed.replayed})
    elif not resumed.was_paused:
        click.echo(f"{function_id} was not paused")
    else:
        told = f", and {resumed.replayed:,} skipped runs are replayed" if replay_skipped else ""
        click.echo(f"{function_id} goes on{told}")


async def resume(target: Target, function_id: str, replay_skipped: bool) -> Resumed:
    async with open_control(target) as control:
        return await control.resume(function_id, replay_skipped=replay_skipped)
