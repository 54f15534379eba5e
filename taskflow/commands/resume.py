"""`taskflow resume`: let the runs of a paused function go on. Rule S10.4."""

from __future__ import annotations

from datetime import timedelta

import click

from taskflow.app import TaskFlow
from taskflow.commands.options import (
    Target,
    check_broker_is_known,
    connection_options,
    find_target,
    full_function_id,
    json_option,
    print_json,
    run,
)
from taskflow.runs.replay import PAUSED, find_runs, plan_replay
from taskflow.values.durations import EPOCH

MAX_SKEW_MS = 60_000  # a worker's clock may have been behind that of who paused


@click.command("resume")
@click.argument("function")
@click.option("--replay-skipped", is_flag=True, help="Run what was skipped while it was paused.")
@connection_options
@json_option
def command(
    function: str, replay_skipped: bool, app: str | None, store: str | None, broker: str | None, namespace: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Resume FUNCTION, app/function: its runs begin and go on again."""
    check_broker_is_known(app, store, broker, "workers are told of ready runs")
    target = find_target(app, store, broker, namespace)
    function_id = full_function_id(target, function)
    was_paused, replayed = run(resume(target, function_id, replay_skipped))
    if as_json:
        print_json({"function": function_id, "was_paused": was_paused, "replayed": replayed})
    elif not was_paused:
        click.echo(f"{function_id} was not paused")
    else:
        told = f", and {replayed:,} skipped runs are replayed" if replay_skipped else ""
        click.echo(f"{function_id} goes on{told}")


async def resume(target: Target, function_id: str, replay_skipped: bool) -> tuple[bool, int]:
    """Whether it was paused, and how many skipped runs are replayed."""
    app = target.app_for(function_id.partition("/")[0])
    try:
        since_ms = await paused_since(app, function_id)
        if since_ms is None or not replay_skipped:
            return await app.aresume(function_id), 0
        # Reruns are held while it is paused: if this process dies now, it is still paused, and the command can be repeated.
        replayed = await replay_paused(app, function_id, since_ms)
        await app.aresume(function_id)
        return True, replayed + await replay_paused(app, function_id, since_ms)  # what came in between
    finally:
        await app.aclose()


async def paused_since(app: TaskFlow, function_id: str) -> int | None:
    async with app.session().deadline() as store:
        return await store.steering.paused_since(function_id)


async def replay_paused(app: TaskFlow, function_id: str, since_ms: int) -> int:
    """Replay the runs that were skipped since then because the function was paused."""
    request = plan_replay(
        await app.find_spec(function_id, app.session()),
        since=EPOCH + timedelta(milliseconds=since_ms - MAX_SKEW_MS),
        status=["skipped"],
        skipped_for=PAUSED,
        replay_id=f"resume-{since_ms}",
        now_ms=app.clock.now_ms(),
    )
    return await app.replay_found(request, await find_runs(app.session(), request))
