"""`taskflow invoke`: start one run of a function. Rule S2.1."""

from __future__ import annotations

from typing import Any

import click

from taskflow.commands.durations import parse_duration_option
from taskflow.commands.options import (
    Target,
    check_broker_is_known,
    connection_options,
    find_target,
    full_function_id,
    json_option,
    open_control,
    parse_json_object,
    print_json,
    run,
)
from taskflow.commands.runs import wait_for
from taskflow.commands.send import parse_headers
from taskflow.function import InvokeOptions


@click.command("invoke")
@click.argument("function")
@click.option(
    "--data", metavar="JSON", callback=parse_json_object, help="A JSON object; - reads it from stdin."
)
@click.option(
    "--id", "run_key", metavar="ID", help="Of the run: a second invoke with it within 24 h starts nothing."
)
@click.option("--user", metavar="JSON", callback=parse_json_object, help="A JSON object: who asks for it.")
@click.option(
    "--header", "headers", metavar="NAME=VALUE", multiple=True, callback=parse_headers,
    help="A header, which all that comes of the run inherits; may be given again.",
)  # fmt: skip
@click.option(
    "--delay", metavar="DURATION", help="How long the run waits before it starts: 30s, 5m, '2 days'."
)
@click.option(
    "--at", metavar="TIME", help="When the run starts: ISO-8601 with an offset, 2030-01-31T12:00:00Z."
)
@click.option(
    "--queue",
    metavar="NAME",
    help="The queue of the run, in place of the function's; a worker must serve it.",
)
@click.option("--wait", is_flag=True, help="Wait for the end, and print the result as JSON.")
@click.option(
    "--timeout",
    "timeout_ms",
    metavar="DURATION",
    callback=parse_duration_option,
    help="How long --wait waits: 30s, 5m.",
)
@connection_options
@json_option
def command(
    function: str, data: dict[str, Any] | None, run_key: str | None, user: dict[str, Any] | None, headers: dict[str, str] | None,
    delay: str | None, at: str | None, queue: str | None, wait: bool,
    timeout_ms: int | None, app: str | None, store: str | None, broker: str | None, namespace: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Start one run of FUNCTION, app/function, whatever its triggers, and print the run's id.

    \b
    taskflow invoke shop/report --data '{"month": 7}' --wait
    """
    if timeout_ms is not None and not wait:
        raise click.UsageError("--timeout is how long to wait: give --wait too")
    check_broker_is_known(app, store, broker, "workers are told of the run")
    target = find_target(app, store, broker, namespace)
    options: InvokeOptions = {
        "id": run_key, "user": user, "headers": headers, "delay": delay, "at": at, "queue": queue,
    }  # fmt: skip
    run_id = run(start(target, full_function_id(target, function), data, options))
    if wait:
        print_json(run(wait_for(target, run_id, timeout_ms)))
    elif as_json:
        print_json({"run_id": run_id})
    else:
        click.echo(run_id)


async def start(target: Target, function_id: str, data: dict[str, Any] | None, options: InvokeOptions) -> str:
    async with open_control(target) as control:
        spec = await control.spec(function_id)
        return await control.invoke(spec, data, version=target.config.app_version, **options)
