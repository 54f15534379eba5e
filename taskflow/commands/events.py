"""`taskflow events`: list, show, schema. Rules S10.2, S11.2."""

from __future__ import annotations

import click

from taskflow.commands.options import (
    Target,
    connection_options,
    find_target,
    json_option,
    limit_option,
    look,
    print_json,
)
from taskflow.runs.events import find_event, recent_events
from taskflow.runs.functions import find_registered
from taskflow.runs.schemas import TypeOfEvent, types_named, types_of_events
from taskflow.terminal.event_page import LIST_HEADER, event_page, list_row
from taskflow.terminal.event_types import TYPES_HEADER, type_page, type_row
from taskflow.terminal.screen import Screen, plain
from taskflow.values.typescript import Named, declarations


@click.group("events")
def command() -> None:
    """List events, and show what each came to."""


@command.command("list")
@click.option("--name", metavar="NAME", help="Only events of this name.")
@limit_option(10_000)
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


@command.command("show", short_help="Show an event, and what it came to.")
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


@command.command("schema", short_help="Show the types of events.")
@click.argument("name", required=False)
@click.option("--typescript", is_flag=True, help="Print the types as a TypeScript module.")
@connection_options
@json_option
def schema_command(
    name: str | None, typescript: bool, app: str | None, store: str | None, broker: str | None, namespace: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Show the types of events, or of the event NAME: those of the app of -A, else those that workers have registered.

    \b
    taskflow events schema --typescript -A shop.app > events.ts
    """
    if typescript and as_json:
        raise click.UsageError("give either --typescript or --json")
    types = known_types(find_target(app, store, broker, namespace))
    if name is not None:
        types = types_named(types, name)
    if as_json:
        print_json([each.to_json() for each in types])
    elif typescript:
        click.echo(declarations([Named(each.name, each.schema) for each in types], table="Events"), nl=False)
    else:
        show_types(types, is_one=name is not None)


def known_types(target: Target) -> list[TypeOfEvent]:
    if target.app is not None:  # its code says it: no server is needed
        return types_of_events([function.spec for function in target.app.functions.values()])
    registered, _ = look(target, lambda opened, _: find_registered(opened))
    return types_of_events([each.spec for each in registered.functions])


def show_types(types: list[TypeOfEvent], *, is_one: bool) -> None:
    screen = Screen.of_stdout()
    if not types:
        screen.print_line(plain("no function has types for its events (EventModel)", "dim"))
    elif is_one:
        for each in types:
            screen.print(type_page(each))
    else:
        screen.table([type_row(each) for each in types], header=TYPES_HEADER)
