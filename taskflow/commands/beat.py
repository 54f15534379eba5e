"""`taskflow beat`: fires crons and timers and finds lost workers, without user code."""

from __future__ import annotations

import logging

import click

from taskflow.beat.health import BeatHealth
from taskflow.beat.main import run_beat
from taskflow.commands.health import health_options, start_health_server
from taskflow.commands.options import connection_options, find_target
from taskflow.observability.logs import LEVELS, configure_logging
from taskflow.redis.address import redact

logger = logging.getLogger("taskflow.beat")


@click.command
@connection_options
@health_options
@click.option("--loglevel", type=click.Choice(LEVELS, case_sensitive=False), default="info", help="[info]")
@click.option("--json-logs", is_flag=True, help="Log one JSON object a line.")
def command(
    app: str | None,
    store: str | None,
    broker: str | None,
    namespace: str | None,
    health_port: int | None,
    health_host: str,
    loglevel: str,
    json_logs: bool,
) -> None:
    """Keep the time for all apps of a store: crons, sleeps, retries, runs of lost workers, old history.

    Run two or more on different machines: one leads, the others stand by. A beat needs no user code; -A
    only names its servers.
    """
    configure_logging(level=loglevel, json_lines=json_logs)
    config = find_target(app, store, broker, namespace).config
    health = BeatHealth()
    start_health_server(health_host, health_port, health.probes)

    def say_ready() -> None:
        logger.info(
            "beat is ready: broker %s, store %s, namespace %s",
            redact(config.broker),
            redact(config.store),
            config.namespace,
        )

    has_metrics = health_port is not None
    raise SystemExit(
        run_beat(config, on_ready=say_ready, on_turn=lambda: None, health=health, has_metrics=has_metrics)
    )
