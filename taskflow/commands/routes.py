"""`taskflow routes`: the rules by which tasks get their queues, and which of them a task meets. Rule S15.4."""

from __future__ import annotations

import click

from taskflow.commands.options import json_option, print_json
from taskflow.loading import load_app
from taskflow.tasks.routes import find_route
from taskflow.tasks.task import Task
from taskflow.terminal.screen import Screen, plain

app_option = click.option(
    "-A", "app", metavar="MODULE[:APP]", required=True, help="The app whose rules these are."
)


@click.group("routes")
def command() -> None:
    """Show the rules by which tasks get their queues."""


@command.command("list")
@app_option
@json_option
def list_routes(app: str, as_json: bool) -> None:
    """List the rules in their order: the first that fits decides."""
    rules = load_app(app)._routes
    if as_json:
        print_json([{"pattern": pattern, "queue": queue} for pattern, queue in rules])
        return
    screen = Screen.of_stdout()
    if not rules:
        screen.print_line(plain("no rules: each task goes to its own queue", "dim"))
        return
    screen.table([[plain(pattern), plain(queue)] for pattern, queue in rules], header=("pattern", "queue"))


@command.command("test")
@click.argument("name")
@app_option
@json_option
def test_route(name: str, app: str, as_json: bool) -> None:
    """Say to which queue a task goes, and by which rule. NAME is its id, with or without the app."""
    loaded = load_app(app)
    task_id = name.removeprefix(f"{loaded.id}/")
    task = loaded.functions.get(f"{loaded.id}/{task_id}")
    rule = find_route(loaded._routes, task_id)
    own = task.spec.queue if isinstance(task, Task) else "default"
    queue = rule[1] if rule else own
    if as_json:
        print_json({
            "task": task_id, "is_known": isinstance(task, Task), "queue": queue, "rule": rule[0] if rule else None
        })  # fmt: skip
        return
    why = f"by the rule {rule[0]!r}" if rule else "by no rule: that is its own queue"
    known = "" if isinstance(task, Task) else f" ({loaded.id} has no such task)"
    click.echo(f"{task_id}{known} goes to {queue!r} {why}")
