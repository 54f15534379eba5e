"""`taskflow mcp`: the operations as tools for language models, over stdin and stdout. Rule S14.1."""

from __future__ import annotations

from importlib.util import find_spec

import click

from taskflow.commands.options import Target, connection_options, find_target, run
from taskflow.errors import ConfigError
from taskflow.values.clock import SystemClock
from taskflow.web.catalogue.operation import Desk
from taskflow.web.catalogue.post import Post


@click.command("mcp")
@click.option(
    "--allow-writes",
    "allows_writes",
    is_flag=True,
    help="Also tools that send, start, cancel, rerun and pause.",
)
@connection_options
def command(
    allows_writes: bool, app: str | None, store: str | None, broker: str | None, namespace: str | None
) -> None:
    """Serve the operations as tools (MCP) over stdin and stdout, for a program that starts this command.

    \b
    claude mcp add taskflow -- taskflow mcp -A shop.app
    """
    if find_spec("mcp") is None:
        raise ConfigError("taskflow mcp needs mcp: pip install 'taskflow-durable[mcp]'")
    run(serve(find_target(app, store, broker, namespace), allows_writes=allows_writes))


async def serve(target: Target, *, allows_writes: bool) -> None:
    # Imported after the check, since it imports the package that may be missing.
    from taskflow.cli import installed_version
    from taskflow.web.tools import serve_stdio

    clock = SystemClock()
    connections = target.connections(clock=clock)
    try:
        async with connections.session().deadline() as store:
            await store.correct(clock)
        desk = Desk(connections, Post(connections), target.app.functions if target.app else {})
        await serve_stdio(desk, allows_writes=allows_writes, version=installed_version())
    finally:
        await connections.aclose()
