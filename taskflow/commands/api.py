"""`taskflow api`: the operations of the web API, straight on the store, or over HTTP with --url. Rule S14.1."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Sequence
from typing import Any

import click
import orjson

from taskflow.cli import Failure
from taskflow.commands.options import Target, connection_options, find_target, print_json, run
from taskflow.terminal.screen import Screen, plain
from taskflow.values.clock import SystemClock
from taskflow.values.ids import new_ulid
from taskflow.values.keywords import did_you_mean
from taskflow.web.catalogue.audit import call_and_note
from taskflow.web.catalogue.fields import fields_of, parse_texts
from taskflow.web.catalogue.operation import Desk, Operation
from taskflow.web.catalogue.post import Post
from taskflow.web.catalogue.problems import Problem
from taskflow.web.catalogue.table import OPERATIONS
from taskflow.web.client import call_over_http

SETTINGS = {"ignore_unknown_options": True}


@click.command("api", context_settings=SETTINGS)
@click.argument("name", required=False)
@click.argument("fields", nargs=-1, type=click.UNPROCESSED, metavar="[--FIELD VALUE]...")
@click.option("--json", "body", metavar="JSON", help="All fields as one JSON object; - reads it from stdin.")
@click.option("--url", metavar="URL", help="Ask the taskflow web at this address, and not the store.")
@click.option("--key", metavar="KEY", help="The API key for --url.  [env: TASKFLOW_API_KEY]")
@click.option(
    "--idempotency-key", metavar="TEXT", help="With --url: a repeat with the same key makes nothing twice."
)
@connection_options
def command(
    name: str | None, fields: tuple[str, ...], body: str | None, url: str | None, key: str | None, idempotency_key: str | None,
    app: str | None, store: str | None, broker: str | None, namespace: str | None,
) -> None:  # fmt: skip
    """Call the operation NAME, and print its answer as JSON. Without NAME: list the operations.

    \b
    taskflow api runs.list --status failed --limit 5
    taskflow api functions.invoke --app shop --function report --json '{"data": {"month": 7}}'
    taskflow api runs.get --run-id 01J... --wait 10s --url http://localhost:8288
    """
    if name is None:
        show_operations()
        return
    operation = OPERATIONS.get(name)
    if operation is None:
        raise click.UsageError(f"there is no operation {name!r}{did_you_mean(name, OPERATIONS)}")
    if idempotency_key and not url:
        raise click.UsageError("--idempotency-key is a header: it goes with --url")
    try:
        given = {**parse_body(body), **parse_texts(operation.request, pairs_in(operation, fields))}
        if url:
            key = key or os.environ.get("TASKFLOW_API_KEY")
            print_json(call_over_http(operation, given, url=url, key=key, idempotency_key=idempotency_key))
        else:
            print_json(run(call_here(find_target(app, store, broker, namespace), operation, given)))
    except Problem as problem:
        raise Failure(f"{problem.detail}\n{problem.kind.value.hint}") from None


def show_operations() -> None:
    screen = Screen.of_stdout()
    rows = [
        [
            [(each.name, "bold")],
            plain(" ".join(f"--{name}" for name in fields_of(each.request)), "dim"),
            plain(each.summary),
        ]
        for each in OPERATIONS.values()
    ]
    screen.table(rows, header=("operation", "fields", ""))


def parse_body(body: str | None) -> dict[str, Any]:
    if body is None:
        return {}
    source = sys.stdin.read() if body == "-" else body
    try:
        members = orjson.loads(source)
    except orjson.JSONDecodeError as error:
        raise click.UsageError(f"--json must be a JSON object, got {source[:60]!r} ({error})") from None
    if not isinstance(members, dict):
        raise click.UsageError(f"--json must be a JSON object, got {source[:60]!r}")
    return members


def pairs_in(operation: Operation, words: Sequence[str]) -> list[tuple[str, str]]:
    """The fields in "--limit 5", "--limit=5" and "--cancel-running"."""
    known = fields_of(operation.request)
    pairs, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise click.UsageError(f"expected --FIELD VALUE, got {word!r:.80}")
        name, is_pair, value = word[2:].partition("=")
        name = name.replace("-", "_")
        is_flag = name in known and known[name].kind is bool
        if not is_pair and not (is_flag and (not rest or rest[0].startswith("--"))):
            if not rest:
                raise click.UsageError(f"{word} needs a value")
            value = rest.pop(0)
        pairs.append((name, value))
    return pairs


async def call_here(target: Target, operation: Operation, given: dict[str, Any]) -> Any:
    """Carry out the operation on the store and broker of the target, in the name of the user of this machine."""
    clock = SystemClock()
    connections = target.connections(clock=clock)
    try:
        async with connections.session().deadline() as store:
            await store.correct(clock)
        functions = target.app.functions if target.app else {}
        desk = Desk(connections, Post(connections), functions, new_ulid(clock.now_ms()))
        return await call_and_note(operation, desk, given, who=f"{getpass.getuser()} on the command line")
    finally:
        await connections.aclose()
