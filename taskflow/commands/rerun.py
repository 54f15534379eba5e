"""`taskflow runs rerun`: runs a run that has ended anew. Rule S10.3."""

from __future__ import annotations

from typing import Any

import click
import orjson

from taskflow.commands.options import (
    Target,
    check_broker_is_known,
    connection_options,
    find_target,
    json_option,
    open_control,
    parse_json_object,
    print_json,
    run,
)
from taskflow.runs.edits import Edits
from taskflow.types import UNCHANGED, JsonObject


def parse_output(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """A click callback that parses any JSON, null included; UNCHANGED without the option."""
    if value is None:
        return UNCHANGED
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise click.BadParameter(
            f"expected JSON like '{{\"paid\": true}}', got {value[:60]!r} ({error})"
        ) from None


@click.command("rerun")
@click.argument("run_id")
@click.option(
    "--from-step", metavar="STEP_ID[#N]", help="Don't execute again the steps that ended before this one."
)
@click.option(
    "--data",
    metavar="JSON",
    callback=parse_json_object,
    help="Data in place of its event's; - reads it from stdin.",
)
@click.option(
    "--output",
    metavar="JSON",
    callback=parse_output,
    help="A result for the step of --from-step, which is then not executed either.",
)
@connection_options
@json_option
def rerun_command(
    run_id: str, from_step: str | None, data: JsonObject | None, output: Any, app: str | None, store: str | None,
    broker: str | None, namespace: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Run again a run that has ended, and print the id of the new run."""
    if output is not UNCHANGED and from_step is None:
        raise click.UsageError("--output is the outcome of a step: name it with --from-step")
    check_broker_is_known(app, store, broker, "workers are told of ready runs")
    target = find_target(app, store, broker, namespace)
    new_id, whole_id = run(rerun(target, run_id, Edits(from_step=from_step, data=data, output=output)))
    if as_json:
        print_json({"run_id": new_id, "rerun_of": whole_id})
    else:
        click.echo(new_id)


async def rerun(target: Target, run_id: str, edits: Edits) -> tuple[str, str]:
    """Rerun the run; returns the id of the new run, and the whole id of the old one."""
    async with open_control(target) as control:
        whole_id = await control.whole_run_id(run_id)
        return await control.rerun(whole_id, edits), whole_id
