"""`taskflow functions`: lists the functions that workers have registered."""

from __future__ import annotations

from collections.abc import Mapping

import click

from taskflow.commands.options import (
    connection_options,
    find_target,
    json_option,
    open_store,
    print_json,
    run,
)
from taskflow.run import RunStatus
from taskflow.runs.counts import RunCounts, count_runs
from taskflow.runs.functions import Registered, RegisteredFunction, find_registered
from taskflow.runs.reasons import Moment
from taskflow.store.registry import LiveCodeBase
from taskflow.terminal.screen import Cell, Screen, plain
from taskflow.triggers import Trigger, TriggerCron
from taskflow.values.text import printable
from taskflow.values.times import relative
from taskflow.web.catalogue.functions import function_json, next_tick


@click.command("functions")
@connection_options
@json_option
def command(
    app: str | None, store: str | None, broker: str | None, namespace: str | None, as_json: bool
) -> None:
    """List the functions that workers have registered, by app."""
    target = find_target(app, store, broker, namespace)

    async def look() -> None:
        async with open_store(target) as (opened, moment):
            registered = await find_registered(opened)
            counts = await count_runs(opened, [each.spec.id for each in registered.functions])
        for problem in registered.problems:
            click.echo(printable(f"taskflow: {problem}"), err=True)
        if as_json:
            print_json(
                [function_json(each, counts[each.spec.id], moment.now_ms) for each in registered.functions]
            )
        else:
            show(registered, counts, moment, address=str(opened.client.address))

    run(look())


def show(registered: Registered, counts: Mapping[str, RunCounts], moment: Moment, *, address: str) -> None:
    screen = Screen.of_stdout()
    if not registered.functions:
        screen.print_line(
            plain(
                f"no functions in the store at {address} yet: a worker registers them when it starts", "dim"
            )
        )
        return
    header = ("function", "triggers", "queue", "live", "failed", "retries", "next tick")
    rows = [row(each, counts[each.spec.id], moment) for each in registered.functions]
    screen.table(rows, header=header, right=(3, 4, 5))
    screen.print_line()
    screen.table(
        [code_base_row(each, moment) for each in registered.code_bases],
        header=("app", "version", "workers", "functions", "since"),
        right=(2, 3),
    )


def row(function: RegisteredFunction, runs: RunCounts, moment: Moment) -> list[Cell]:
    spec = function.spec
    tick_ms = next_tick(spec, moment.now_ms)
    tick = f"{moment.at(tick_ms)} ({relative(tick_ms, now_ms=moment.now_ms)})" if tick_ms is not None else ""
    triggers = ", ".join(trigger_text(trigger) for trigger in spec.triggers)
    return [
        [(f"{spec.app_id}/", "dim"), (spec.slug, "bold"), (pause_text(function.paused_ms, moment), "warn")],
        plain(triggers) if triggers else plain("by invoke only", "dim"),
        plain(spec.queue, "dim" if spec.queue == "default" else ""),
        *[plain(f"{count:,}", "" if count else "dim") for count in (runs.live, runs.of([RunStatus.FAILED]))],
        plain(spec.retries.attempts), plain(tick),
    ]  # fmt: skip


def code_base_row(code_base: LiveCodeBase, moment: Moment) -> list[Cell]:
    return [
        plain(code_base.app_id), plain(code_base.version), plain(code_base.workers, "" if code_base.workers else "warn"),
        plain(len(code_base.manifests)), plain(moment.at(code_base.registered_ms), "dim"),
    ]  # fmt: skip


def trigger_text(trigger: Trigger) -> str:
    if isinstance(trigger, TriggerCron):
        return f"cron {trigger.cron}"
    return trigger.event if trigger.expression is None else f"{trigger.event} if {trigger.expression}"


def pause_text(paused_ms: int | None, moment: Moment) -> str:
    return "" if paused_ms is None else f" (paused since {moment.at(paused_ms)})"
