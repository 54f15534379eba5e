"""`taskflow worker`: starts child processes that execute an app's functions, and the supervisor that keeps them alive."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module

import click

from taskflow.broker.streams.scripts import PACKAGE as BROKER_PACKAGE
from taskflow.commands.durations import parse_duration_option
from taskflow.commands.health import health_options, start_health_server
from taskflow.config import check_slug
from taskflow.errors import ConfigError
from taskflow.function import FunctionSpec
from taskflow.observability.logs import LEVELS, configure_logging
from taskflow.redis.scripts import load_scripts
from taskflow.store.store import PACKAGE
from taskflow.values.loops import new_loop
from taskflow.values.manifest import entries_of
from taskflow.worker.child.entry import WorkerOptions, serve_beat, serve_child
from taskflow.worker.child.runner import queue_names
from taskflow.worker.supervisor.children import Helper
from taskflow.worker.supervisor.cpus import available_cpus
from taskflow.worker.supervisor.health import WorkerHealth
from taskflow.worker.supervisor.liveness import WorkerLiveness
from taskflow.worker.supervisor.options import SupervisorOptions
from taskflow.worker.supervisor.supervisor import Supervisor


def parse_queues(ctx: click.Context, parameter: click.Parameter, value: Sequence[str]) -> tuple[str, ...]:
    try:
        return tuple(check_slug(name, what="a queue's name") for name in queue_names(value))
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None


@click.command
@click.option(
    "-A", "app", required=True, metavar="MODULE[:APP]", help="Where the TaskFlow is, as in shop.tasks:app."
)
@click.option(
    "--processes", type=click.IntRange(1), metavar="N", help="Child processes; as many as CPUs by default."
)
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    default=100,
    metavar="N",
    help="Steps at a time, per process [100].",
)
@click.option(
    "-Q",
    "queues",
    multiple=True,
    metavar="QUEUE,...",
    callback=parse_queues,
    help="Queues to serve [default].",
)
@click.option("-B", "beat", is_flag=True, help="Run a beat, too: crons and timers need one somewhere.")
@click.option(
    "--drain-timeout",
    default="30s",
    metavar="DURATION",
    callback=parse_duration_option,
    help="How long running steps may take after SIGTERM [30s].",
)
@click.option(
    "--blocked-after",
    default="5s",
    metavar="DURATION",
    callback=parse_duration_option,
    help="Log an event loop that stands still for this long [5s].",
)
@click.option(
    "--replace-after",
    default="5m",
    metavar="DURATION",
    callback=parse_duration_option,
    help="Replace a process whose event loop stands still for this long; 0s: never [5m].",
)
@health_options
@click.option("--loglevel", type=click.Choice(LEVELS, case_sensitive=False), default="info", help="[info]")
@click.option("--json-logs", is_flag=True, help="Log one JSON object a line.")
def command(
    app: str,
    processes: int | None,
    concurrency: int,
    queues: tuple[str, ...],
    beat: bool,
    drain_timeout: int,
    blocked_after: int,
    replace_after: int,
    health_port: int | None,
    health_host: str,
    loglevel: str,
    json_logs: bool,
) -> None:
    """Execute the functions of an app until SIGTERM.

    SIGTERM and Ctrl-C drain: steps that execute end, all else is handed back to other workers. A second one, or SIGQUIT,
    hands everything back at once. SIGHUP replaces the processes one by one, with the code as it is then.
    """
    configure_logging(level=loglevel, json_lines=json_logs)
    options = WorkerOptions(
        target=app,
        processes=processes or available_cpus(),
        concurrency=concurrency,
        queues=queues,
        drain_timeout_s=drain_timeout / 1000,
        blocked_after_s=blocked_after / 1000,
        has_metrics=health_port is not None,
    )
    health = WorkerHealth(blocked_after_s=options.blocked_after_s)
    beat_main = partial(serve_beat, has_metrics=options.has_metrics)
    helpers = (Helper(name="beat", main=beat_main),) if beat else ()
    supervisor = Supervisor(
        SupervisorOptions(
            child_main=partial(serve_child, options=options),
            processes=options.processes,
            helpers=helpers,
            drain_timeout_s=options.drain_timeout_s,
            replace_after_s=replace_after / 1000,
        ),
        make_store=WorkerLiveness,
        health=None if health_port is None else health,
    )
    preload(with_beat=beat)
    start_health_server(health_host, health_port, health.probes, forks=True)
    raise SystemExit(supervisor.run())


def preload(*, with_beat: bool = False) -> None:
    """Import and load what every child needs before they fork, so that they share the memory, and the time is spent once."""
    new_loop().close()
    # The first connection to a host needs it.
    import_module("encodings.idna")
    load_scripts(PACKAGE)
    load_scripts(BROKER_PACKAGE)
    entries_of(FunctionSpec)
    if with_beat:
        import_module("taskflow.beat.main")
