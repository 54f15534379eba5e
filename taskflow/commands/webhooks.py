"""`taskflow webhooks`: lists what came to webhooks, replays it, and tries a webhook out. Rule S14.7."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from taskflow.app import TaskFlow
from taskflow.cli import Failure
from taskflow.commands.options import (
    Target,
    connection_options,
    find_target,
    json_option,
    limit_option,
    look,
    print_json,
    run,
)
from taskflow.event import Event
from taskflow.store.webhooks import DeliveryOutcome, StoredRequest
from taskflow.terminal.screen import Cell, Screen, plain
from taskflow.values.clock import SystemClock
from taskflow.values.text import printable, short
from taskflow.values.times import relative
from taskflow.web import check_installed
from taskflow.webhook_request import WebhookRequest

HEADER = ("request", "webhook", "came", "bytes", "is", "")


@click.group("webhooks")
def command() -> None:
    """List what came to webhooks, replay it, and try a webhook out."""


@command.command("list")
@click.option("--failed", "only_failed", is_flag=True, help="Only those whose function failed.")
@limit_option(1_000, "Look at the newest N.")
@connection_options
@json_option
def list_command(
    only_failed: bool, limit: int, app: str | None, store: str | None, broker: str | None, namespace: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """List the requests that came to webhooks, newest first. They are kept for 7 days."""
    target = find_target(app, store, broker, namespace)
    found, moment = look(target, lambda opened, _: opened.webhooks.newest(limit=limit))
    if only_failed:
        found = [each for each in found if each.outcome is DeliveryOutcome.FAILED]
    if as_json:
        print_json([each.to_json() for each in found])
        return
    screen = Screen.of_stdout()
    if not found:
        screen.print_line(plain("no requests", "dim"))
        return
    screen.table([row(each, moment.now_ms) for each in found], header=HEADER, right=(3,))


def row(request: StoredRequest, now_ms: int) -> list[Cell]:
    is_bad = request.outcome is DeliveryOutcome.FAILED
    told = request.error or ", ".join(request.events)
    return [
        plain(request.id),
        plain(printable(request.webhook), "bold"),
        plain(relative(request.at_ms, now_ms=now_ms)),
        plain(f"{request.size:,}"),
        plain(request.outcome.value, "warn" if is_bad else ""),
        plain(printable(short(told))),
    ]


def app_of(target: Target) -> TaskFlow:
    if target.app is None:
        raise click.UsageError("a webhook is user code: name its app with -A MODULE[:APP]")
    return target.app


@command.command("replay")
@click.argument("request_id")
@connection_options
@json_option
def replay_command(
    request_id: str,
    app: str | None,
    store: str | None,
    broker: str | None,
    namespace: str | None,
    as_json: bool,
) -> None:
    """Make the events of a request anew, by the code of -A, and send them. Events that were sent before start nothing twice."""
    check_installed()
    # Imported after the check, since it imports a package that may be missing.
    from taskflow.web.catalogue.operation import Desk
    from taskflow.web.catalogue.post import Post
    from taskflow.web.catalogue.problems import Problem
    from taskflow.web.webhooks import AppWebhooks, Delivered, replay

    target = find_target(app, store, broker, namespace)
    webhooks = AppWebhooks.of(app_of(target))

    async def work() -> Delivered:
        clock = SystemClock()
        connections = target.connections(clock=clock)
        try:
            async with connections.session().deadline() as opened:
                await opened.correct(clock)
            return await replay(Desk(connections, Post(connections)), webhooks, request_id)
        finally:
            await connections.aclose()

    try:
        delivered = run(work())
    except Problem as problem:
        raise Failure(problem.detail) from None
    if as_json:
        print_json(
            {
                "id": request_id,
                "outcome": delivered.outcome.value,
                "events": delivered.events,
                "error": delivered.error,
            }
        )
    elif delivered.error is None:
        click.echo(f"{delivered.outcome.value}: {', '.join(delivered.events) or 'no events'}")
    if delivered.error is not None:
        raise Failure(delivered.error)


@command.command("test")
@click.argument("name")
@click.argument("body", type=click.Path(allow_dash=True, dir_okay=False), default="-")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header of the request.")
@connection_options
@json_option
def test_command(
    name: str, body: str, headers: tuple[str, ...], app: str | None, store: str | None, broker: str | None,
    namespace: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Show which events the webhook NAME makes of a body, a file or stdin. Nothing is verified, and nothing is sent.

    \b
    taskflow webhooks test github payload.json --header X-GitHub-Event=push -A shop.app
    """
    found = app_of(find_target(app, store, broker, namespace))
    webhook = found._webhooks.get(name)
    if webhook is None:
        known = ", ".join(found._webhooks) or "none"
        raise Failure(f"app {found.id} has no webhook {name!r}; it has {known}")
    try:
        with click.open_file(body, "rb") as opened:
            raw = opened.read()
    except OSError as error:
        raise Failure(f"can't read the body from {body}: {error.strerror}") from None
    request = WebhookRequest(
        url=f"http://localhost/webhooks/{found.id}/{name}", headers=parse_headers(headers), query={}, raw=raw
    )  # fmt: skip
    try:
        events = asyncio.run(
            webhook.events(request, types=found._functions.types, now_ms=SystemClock().now_ms())
        )
    except Exception as error:
        raise Failure(f"the function of webhook {name!r} failed: {type(error).__name__}: {error}") from error
    if as_json:
        print_json([event_json(event) for event in events])
        return
    if not events:
        click.echo("no events")
    for event in events:
        print_json(event_json(event))


def parse_headers(given: tuple[str, ...]) -> dict[str, str]:
    pairs = [each.partition("=") for each in given]
    if any(not separator for _, separator, _ in pairs):
        raise click.UsageError(f"--header must be NAME=VALUE, got {', '.join(given)[:80]!r}")
    return {"content-type": "application/json", **{name.strip().lower(): value for name, _, value in pairs}}


def event_json(event: Event) -> dict[str, Any]:
    fields = {
        "name": event.name,
        "data": event.data,
        "id": event.id,
        "ts": event.ts,
        "user": event.user,
        "v": event.v,
    }
    return {name: value for name, value in fields.items() if value is not None}
