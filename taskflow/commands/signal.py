"""`taskflow signal`: resumes the run that waits for a signal. Rule S3.4."""

from __future__ import annotations

import sys
from typing import Any

import click
import orjson

from taskflow.commands.options import (
    Target,
    connection_options,
    find_target,
    json_option,
    open_control,
    print_json,
    run,
)


def parse_json(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """A click callback that parses any JSON; "-" reads it from stdin."""
    if value is None:
        return None
    source = sys.stdin.read() if value == "-" else value
    try:
        return orjson.loads(source)
    except orjson.JSONDecodeError as error:
        raise click.BadParameter(
            f"expected JSON like '{{\"ok\": true}}', got {source[:60]!r} ({error})"
        ) from None


async def send(target: Target, app_id: str, name: str, data: Any) -> str | None:
    async with open_control(target) as control:
        return await control.signal(app_id, name, data)


@click.command("signal")
@click.argument("name")
@click.option(
    "--data", metavar="JSON", callback=parse_json, help="What the step returns; - reads it from stdin."
)
@click.option("--app", "app_id", metavar="ID", help="The app whose run waits, without -A.")
@connection_options
@json_option
def command(
    name: str, data: Any, app_id: str | None, app: str | None, store: str | None, broker: str | None,
    namespace: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Resume the run that waits for the signal NAME, and print the run's id.

    \b
    taskflow signal approve-7 --data '{"by": "ann"}' -A shop.app
    """
    if app is not None and app_id is not None:
        raise click.UsageError("give either -A or --app: the app of -A knows its id")
    target = find_target(app, store, broker, namespace)
    sender_id = app_id or (target.app.id if target.app else "") or (target.dev.app_id if target.dev else "")
    if not sender_id:
        raise click.UsageError("which app is the signal for? Give -A MODULE[:APP], or --app ID")
    run_id = run(send(target, sender_id, name, data))
    if as_json:
        print_json({"run_id": run_id})
    elif run_id is not None:
        click.echo(run_id)
    if run_id is None:
        if not as_json:
            click.echo(f"taskflow: no run of {sender_id} waits for the signal {name!r}", err=True)
        sys.exit(1)
