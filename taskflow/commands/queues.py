"""`taskflow queues`: list, pause, resume. Rules S7.2, S10.4."""

from __future__ import annotations

import click

from taskflow.commands.options import (
    Target,
    check_broker_is_known,
    connection_options,
    find_target,
    json_option,
    look,
    open_control,
    print_json,
    run,
)
from taskflow.runs.queues import QueueView, find_queues
from taskflow.runs.reasons import Moment
from taskflow.terminal.screen import Cell, Screen, plain

HEADER = ("queue", "queued", "running", "waiting", "scheduled", "workers")


@click.group("queues")
def command() -> None:
    """List queues, pause and resume them."""


@command.command("list")
@connection_options
@json_option
def list_command(
    app: str | None, store: str | None, broker: str | None, namespace: str | None, as_json: bool
) -> None:
    """List the queues of all apps, with the live runs in each."""
    target = find_target(app, store, broker, namespace)
    found, moment = look(target, lambda opened, _: find_queues(opened))
    if as_json:
        print_json([queue.to_json() for queue in found])
        return
    screen = Screen.of_stdout()
    if not found:
        screen.print_line(plain("no queues yet: a worker registers the functions that name them", "dim"))
        return
    screen.table([row(queue, moment) for queue in found], header=HEADER, right=(1, 2, 3, 4, 5))


def row(queue: QueueView, moment: Moment) -> list[Cell]:
    paused = "" if queue.paused_ms is None else f" (paused since {moment.at(queue.paused_ms)})"
    is_unserved = not queue.workers and bool(queue.queued)
    return [
        [(f"{queue.app}/", "dim"), (queue.name, "bold"), (paused, "warn")],
        *[plain(f"{count:,}", "" if count else "dim") for count in (queue.queued, queue.running, queue.waiting, queue.scheduled)],
        plain(f"{queue.workers:,}", "warn" if is_unserved else ""),
    ]  # fmt: skip


@command.command("pause", short_help="Let no run of a queue begin or go on.")
@click.argument("queue")
@connection_options
@json_option
def pause_command(
    queue: str, app: str | None, store: str | None, broker: str | None, namespace: str | None, as_json: bool
) -> None:
    """Pause QUEUE, app/queue: none of its runs begins or goes on until it is resumed.

    Runs that execute go on until they wait. Events still make runs, which wait in the queue.
    """
    target = find_target(app, store, broker, namespace)
    app_id, name = queue_of(target, queue)
    run(pause(target, app_id, name))
    if as_json:
        print_json({"queue": f"{app_id}/{name}"})
    else:
        click.echo(f"queue {app_id}/{name} is paused")


@command.command("resume", short_help="Let the runs of a paused queue go on.")
@click.argument("queue")
@connection_options
@json_option
def resume_command(
    queue: str, app: str | None, store: str | None, broker: str | None, namespace: str | None, as_json: bool
) -> None:
    """Resume QUEUE, app/queue: its runs begin and go on again."""
    check_broker_is_known(app, store, broker, "workers are told of ready runs")
    target = find_target(app, store, broker, namespace)
    app_id, name = queue_of(target, queue)
    was_paused = run(resume(target, app_id, name))
    if as_json:
        print_json({"queue": f"{app_id}/{name}", "was_paused": was_paused})
    else:
        click.echo(f"queue {app_id}/{name} {'goes on' if was_paused else 'was not paused'}")


def queue_of(target: Target, queue: str) -> tuple[str, str]:
    """The app and the name in "app/queue"; the app may be left out if -A names it. Raises UsageError."""
    app_id, slash, name = queue.rpartition("/")
    if slash:
        return app_id, name
    if target.app is None:
        raise click.UsageError(f"which app is queue {queue!r} of? Write app/{queue}, or give -A MODULE[:APP]")
    return target.app.id, queue


async def pause(target: Target, app_id: str, queue: str) -> None:
    async with open_control(target) as control:
        await control.pause_queue(app_id, queue)


async def resume(target: Target, app_id: str, queue: str) -> bool:
    async with open_control(target) as control:
        return await control.resume_queue(app_id, queue)
