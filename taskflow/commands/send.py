"""`taskflow send`: send an event. Rules S1.1 to S1.5."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import click

from taskflow.commands.options import (
    Target,
    connection_options,
    find_target,
    json_option,
    open_store,
    parse_json_object,
    print_json,
    run,
)
from taskflow.connections import Connections
from taskflow.errors import InvalidDuration, TaskFlowError
from taskflow.event import NO_TYPES, encode_events
from taskflow.event_type import EventTypes
from taskflow.headers import Headers
from taskflow.redis.connection import CommandError
from taskflow.runs.functions import find_registered
from taskflow.types import Duration, JsonObject
from taskflow.values.durations import parse_when_ms
from taskflow.values.keywords import did_you_mean
from taskflow.values.text import printable

LOOK_S = 1.0  # how long to look for who listens
MAX_TS_DIGITS = 15  # enough for ms up to the year 9999


def parse_ts(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """A click callback that parses a `ts`, given as ms since the epoch or as ISO-8601 text, into ms."""
    if value is None:
        return None
    try:
        # Any point in time is allowed here, so `now_ms` must not limit it.
        if value.isascii() and value.isdecimal() and len(value) <= MAX_TS_DIGITS:
            return int(value)
        return parse_when_ms(value, now_ms=1 << 62)
    except InvalidDuration as error:
        raise click.BadParameter(str(error)) from None


def parse_headers(
    ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str] | None:
    """A click callback that parses "name=value" texts into headers; None without any."""
    headers = {}
    for text in values:
        name, is_pair, value = text.partition("=")
        if not is_pair:
            raise click.BadParameter(f"expected NAME=VALUE, as in tenant=acme, got {text!r:.80}")
        headers[name] = value
    return headers or None


def send(
    connections: Connections,
    name: str,
    data: JsonObject | None,
    *,
    id: str | None,
    ts: int | None,
    delay: Duration | None,
    user: JsonObject | None,
    v: str | None,
    headers: Headers | None,
    types: EventTypes,
) -> str:
    """Send one event, which is checked by its type if `types` has one (S11.2); return its id."""
    (sent_id,), messages = encode_events(
        name, data, id=id, ts=ts, delay=delay, user=user, v=v, headers=headers, now_ms=connections.clock.now_ms(),
        max_bytes=connections.config.max_event_bytes, types=types, codecs=connections.codecs,
    )  # fmt: skip
    try:
        connections.publisher.publish_events(messages)
    finally:
        connections.close()
    return sent_id


@click.command("send")
@click.argument("name")
@click.option(
    "--data", metavar="JSON", callback=parse_json_object, help="A JSON object; - reads it from stdin."
)
@click.option(
    "--id", "event_id", metavar="ID", help="A second event with this id within 24 h starts nothing."
)
@click.option(
    "--ts",
    metavar="MS|ISO",
    callback=parse_ts,
    help="The event's time; when it is in the future, its runs start then.",
)
@click.option(
    "--delay", metavar="DURATION", help="How long its runs wait before they start: 30s, 5m, '2 days'."
)
@click.option("--user", metavar="JSON", callback=parse_json_object, help="A JSON object: who sends it.")
@click.option(
    "--event-version", "v", metavar="V", help="The version of its data, where its type has several."
)
@click.option(
    "--header", "headers", metavar="NAME=VALUE", multiple=True, callback=parse_headers,
    help="A header, which all that comes of the event inherits; may be given again.",
)  # fmt: skip
@click.option(
    "--app",
    "app_id",
    metavar="ID",
    help="Without -A: the app that gets the event, also before its first worker runs.",
)
@connection_options
@json_option
def command(
    name: str, data: dict[str, Any] | None, event_id: str | None, ts: int | None, delay: str | None, user: dict[str, Any] | None,
    v: str | None, headers: dict[str, str] | None, app_id: str | None, app: str | None, store: str | None, broker: str | None,
    namespace: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Send the event NAME and print its id.

    \b
    taskflow send shop/order.created --data '{"sku": "A7"}' -A shop.app
    """
    if app is not None and app_id is not None:
        raise click.UsageError("give either -A or --app: the app of -A knows its id")
    target = find_target(app, store, broker, namespace)
    sender_id = app_id or (target.app.id if target.app else "") or (target.dev.app_id if target.dev else "")
    if not sender_id:
        known = " --broker URL" if not (broker or os.environ.get("TASKFLOW_BROKER")) else ""
        raise click.UsageError(f"which app is the event for? Give -A MODULE[:APP], or --app ID{known}")
    types = target.app._functions.types if target.app else NO_TYPES
    # Before it is sent: a run that waits for the event waits no more a moment later.
    warning = "" if as_json else silence(target, name)
    sent_id = send(
        target.connections(sender_id), name, data, id=event_id, ts=ts, delay=delay, user=user, v=v, headers=headers,
        types=types,
    )  # fmt: skip
    if as_json:
        print_json({"id": sent_id})
        return
    click.echo(sent_id)
    if warning:
        click.echo(f"taskflow: {printable(warning)}", err=True)


def silence(target: Target, name: str) -> str:
    """A warning that nobody listens to events of this name, if the store tells that in a moment; else ""."""
    # Imported here: it takes a third of the time that sending takes.
    from taskflow.web.catalogue.post import Audience

    async def look() -> tuple[Audience, bool]:
        async with asyncio.timeout(LOOK_S), open_store(target) as (store, _):
            return Audience.of(await find_registered(store)), await store.history.is_awaited(name)

    try:
        audience, is_awaited = run(look())
    except (TaskFlowError, TimeoutError, CommandError):
        # A producer may be out of the store's reach, or without the right to read.
        return ""
    if is_awaited or audience.hears(name):
        return ""
    near = did_you_mean(name, audience.names) if audience.names else "."
    return f"no function and no run listens to {name!r} now{near}"
