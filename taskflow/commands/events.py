"""`taskflow events`: list, show. Rule S10.2."""

from __future__ import annotations

import click

from taskflow.commands.options import connection_options, find_target, json_option, look, print_json
from taskflow.runs.events import find_event, recent_events
from taskflow.terminal.event_page import LIST_HEADER, event_page, list_row
from taskflow.terminal.screen import Screen, plain


@click.group("events")
def command() -> None:
    """List events, and show what each came to."""


@command.command("list")
@click.option("--name", metavar="NAME", help="Only events of this name.")
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Show at most N.",
)
@connection_options
@json_option
def list_command(
    name: str | None, limit: int, app: str | None, store: str | None, broker: str | None, namespace: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """List the events that workers have routed, newest first."""
    target = find_target(app, store, broker, namespace)
    found, moment = look(target, lambda opened, _: recent_events(opened, limit=limit, name=name))
    if as_json:
        print_json([event.to_json() for event in found])
        return
    screen = Screen.of_stdout()
    if not found:
        screen.print_line(plain("no events" if name is None else f"no events {name}", "dim"))
        return
    screen.table([list_row(event, moment.now_ms) for event in found], header=LIST_HEADER)


@command.command("show")
@click.argument("event_id")
@click.option("--name", help="The event's name, when several have this id; without it the newest is shown.")
@connection_options
@json_option
def show_command(
    event_id: str,
    name: str | None,
    app: str | None,
    store: str | None,
    broker: str | None,
    namespace: str | None,
    as_json: bool,
) -> None:
    """Show an event: what it holds, and what it started, skipped, resumed and cancelled."""
    target = find_target(app, store, broker, namespace)
    found, moment = look(target, lambda opened, _: find_event(opened, event_id, name))
    if as_json:
        print_json(found.to_json())
        return
    Screen.of_stdout().print(event_page(found, now_ms=moment.now_ms))
