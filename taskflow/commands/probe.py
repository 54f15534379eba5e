"""`taskflow probe`: asks a worker or beat on this machine how it is. Rule S13.3."""

from __future__ import annotations

import click

from taskflow.observability.probe import HOST, PATHS, PORT, probe


@click.command("probe")
@click.argument("question", type=click.Choice(list(PATHS)), default="ready")
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    default=PORT,
    show_default=True,
    metavar="N",
    help="Its --health-port.",
)
@click.option("--host", default=HOST, show_default=True, metavar="ADDRESS", help="Its --health-host.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole answer.")
def command(question: str, port: int, host: str, as_json: bool) -> None:
    """Ask a worker or beat whether it is live, ready, or has started, for containers without curl.

    Exit code 0: it is; 1: it is not, and the answer says why; 2: nothing answers there.
    """
    raise SystemExit(probe(question, host=host, port=port, as_json=as_json))
