"""`taskflow keys`: create, list and revoke the keys of web clients. Rule S14.4."""

from __future__ import annotations

from typing import Any

import click

from taskflow.cli import Failure
from taskflow.commands.api import call_here
from taskflow.commands.options import connection_options, find_target, json_option, print_json, run
from taskflow.terminal.screen import Cell, Screen, plain
from taskflow.values.clock import SystemClock
from taskflow.values.times import relative
from taskflow.web.catalogue.keys import KeyJson
from taskflow.web.catalogue.operation import Scope
from taskflow.web.catalogue.problems import Problem
from taskflow.web.catalogue.table import OPERATIONS

HEADER = ("key", "begins", "allows", "rate", "made", "expires", "used")
Servers = tuple[str | None, str | None, str | None, str | None]


@click.group("keys")
def command() -> None:
    """Create, list and revoke the keys of those who use the web."""


def call(name: str, given: dict[str, Any], servers: Servers) -> Any:
    """The answer of the operation. Raises Failure."""
    try:
        return run(call_here(find_target(*servers), OPERATIONS[name], given))
    except Problem as problem:
        raise Failure(problem.detail) from None


@command.command("create")
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice([scope.value for scope in Scope]),
    help="Make an API key: what it allows. Else it is an event key.",
)
@click.option(
    "--allow", multiple=True, metavar="NAME", help="Only such events: a name, or shop/*. May be given again."
)
@click.option("--rate", metavar="N/PERIOD", help="How many events it may send: 100/s, 1000/5m.")
@click.option("--expires", metavar="DURATION", help="How long it is valid: 90d. By default for ever.")
@connection_options
@json_option
def create_command(
    name: str, scope: str | None, allow: tuple[str, ...], rate: str | None, expires: str | None, app: str | None,
    store: str | None, broker: str | None, namespace: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Make a key that is called NAME, and print it. It is shown only now.

    \b
    taskflow keys create storefront --allow 'shop/*' --rate 100/s --expires 90d
    taskflow keys create grafana --scope read
    """
    given = {"name": name, "scope": scope, "allow": list(allow), "rate": rate, "expires": expires}
    made = call("keys.create", given, (app, store, broker, namespace))
    if as_json:
        print_json(made)
    else:
        click.echo(made["key"])


@command.command("list")
@connection_options
@json_option
def list_command(
    app: str | None, store: str | None, broker: str | None, namespace: str | None, as_json: bool
) -> None:
    """List the keys, with when each was used last, to a minute."""
    keys: list[KeyJson] = call("keys.list", {}, (app, store, broker, namespace))["keys"]
    if as_json:
        print_json(keys)
        return
    screen = Screen.of_stdout()
    if not keys:
        screen.print_line(plain("no keys yet: taskflow keys create NAME makes one", "dim"))
        return
    now_ms = SystemClock().now_ms()
    screen.table([row(key, now_ms) for key in keys], header=HEADER)


def row(key: KeyJson, now_ms: int) -> list[Cell]:
    def when(ms: int | None, none: str) -> str:
        return none if ms is None else relative(ms, now_ms=now_ms)

    allows = key["scope"] or f"events {', '.join(key['allow']) or 'of all names'}"
    rate = key["rate"]
    return [
        plain(key["name"], "bold"), plain(f"{key['begins']}…", "dim"), plain(allows),
        plain(f"{rate['limit']:,} in {rate['period_ms'] / 1000:g} s" if rate else ""), plain(when(key["created_ms"], ""), "dim"),
        plain(when(key["expires_ms"], "never"), "warn" if key["is_expired"] else "dim"), plain(when(key["used_ms"], "never")),
    ]  # fmt: skip


@command.command("revoke")
@click.argument("name")
@connection_options
@json_option
def revoke_command(
    name: str, app: str | None, store: str | None, broker: str | None, namespace: str | None, as_json: bool
) -> None:
    """Make the key NAME invalid, within 2 s in each web process."""
    revoked = call("keys.revoke", {"name": name}, (app, store, broker, namespace))
    if as_json:
        print_json(revoked)
    else:
        click.echo(f"the key {name} is not valid any more")
