"""`taskflow pause`: lets no run of a function begin or go on. Rule S10.4."""

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


@click.command("pause")
@click.argument("function")
@click.option("--cancel-running", is_flag=True, help="Cancel its live runs too.")
@connection_options
@json_option
def command(
    function: str, cancel_running: bool, app: str | None, store: str | None, broker: str | None, namespace: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Pause FUNCTION, app/function: none of its runs begins or goes on until it is resumed.

    Events are recorded as skipped runs, which a replay picks up. Live runs stop before their next step.
    """
    if cancel_running:
        check_broker_is_known(app, store, broker, "workers are told of cancelled runs")
    target = find_target(app, store, broker, namespace)
    function_id = full_function_id(target, function)
    cancelled = run(pause(target, function_id, cancel_running))
    if as_json:
        print_json({"function": function_id, "cancelled": cancelled})
        return
    told = f", and {cancelled:,} live runs are cancelled" if cancel_running else ""
    click.echo(f"{function_id} is paused{told}")


async def pause(target: Target, function_id: str, cancel_running: bool) -> int:
    async with open_control(target) as control:
        return await control.pause(function_id, cancel_running=cancel_running)
