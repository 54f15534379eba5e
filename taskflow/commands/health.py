"""The options of commands that serve for probes and metrics, and the server that they start. Rules S13.1, S13.3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from taskflow.observability.health import HealthServer, Probes, listen

F = TypeVar("F", bound=Callable[..., Any])


def health_options(function: F) -> F:
    """Add --health-port and --health-host to a command, as arguments `health_port` and `health_host`."""
    port = click.option(
        "--health-port",
        type=click.IntRange(1, 65_535),
        metavar="N",
        help="Answer /livez, /readyz, /startupz and /metrics there.",
    )
    host = click.option(
        "--health-host", default="127.0.0.1", metavar="ADDRESS", help="Where to listen for them [127.0.0.1]."
    )
    return port(host(function))


def start_health_server(host: str, port: int | None, probes: Probes, *, forks: bool = False) -> None:
    """Answer probes from now on, if a port is given; `forks` says that this process forks others. Raises ConfigError."""
    if port is None:
        return
    server = HealthServer(listen(host, port), probes)
    if forks:
        server.stay_out_of_forks()
    server.start()
