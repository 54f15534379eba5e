"""`taskflow web`: serves the API and the event API over HTTP. Rule S14."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import webbrowser

import click

from taskflow.commands.health import health_options, start_health_server
from taskflow.commands.options import connection_options, find_target
from taskflow.values.clock import SystemClock
from taskflow.values.loops import new_loop
from taskflow.web import check_installed

PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")


@click.command("web")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option(
    "--port",
    default=8288,
    show_default=True,
    type=click.IntRange(0, 65_535),
    metavar="N",
    help="0 is any that is free.",
)
@click.option(
    "--prefix",
    default="",
    metavar="PATH",
    help="Under which others see it, as /taskflow; with or without a proxy.",
)
@click.option("--dev", "is_dev", is_flag=True, help="Let in everybody on this machine without a key.")
@click.option(
    "--app",
    "app_id",
    metavar="ID",
    help="An app for which events are kept, without -A, until its first worker starts.",
)
@click.option("--open", "opens", is_flag=True, help="Open the dashboard in a browser.")
@health_options
@connection_options
def command(
    host: str, port: int, prefix: str, is_dev: bool, app_id: str | None, opens: bool, health_port: int | None, health_host: str,
    app: str | None, store: str | None, broker: str | None, namespace: str | None,
) -> None:  # fmt: skip
    """Serve the dashboard, the API under /api/v1, and take events at /e/KEY, as Inngest's SDKs send them.

    Callers need a key, which `taskflow keys create` makes.
    """
    check_installed()
    # Imported after the check, since it imports the packages that may be missing.
    from taskflow.cli import installed_version
    from taskflow.web.health import WebHealth
    from taskflow.web.serve import Place, serve
    from taskflow.web.site import SiteOptions
    from taskflow.web.webhooks import AppWebhooks

    prefix = prefix.rstrip("/")
    if not PREFIX.fullmatch(prefix):
        raise click.UsageError(f"--prefix must be a path like /taskflow, got {prefix!r:.80}")
    place = Place(host=host, port=port, prefix=prefix)
    if is_dev and not place.is_loopback:
        raise click.UsageError(
            f"--dev lets everybody in, so it listens on this machine only, and not on {host}: leave out --host"
        )
    if app is not None and app_id is not None:
        raise click.UsageError("give either -A or --app: the app of -A knows its id")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    target = find_target(app, store, broker, namespace)
    clock = SystemClock()
    link = target.connections(app_id or "", clock=clock)
    functions = target.app.functions if target.app else {}
    options = SiteOptions(
        is_dev=is_dev, version=installed_version(), functions=functions,
        webhooks=AppWebhooks.of(target.app) if target.app else AppWebhooks(),
    )  # fmt: skip
    health = WebHealth() if health_port is not None else None
    if health is not None:
        start_health_server(health_host, health_port, health.probes)

    def say_started(url: str) -> None:
        click.echo(f"taskflow web  ·  {url}")
        if opens:
            # In a thread: a browser in a terminal takes its time.
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(link, clock, options, place, say_started, health))
