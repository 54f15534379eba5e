"""Serves the site with uvicorn, until a signal says stop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from taskflow.connections import Connections
from taskflow.errors import ConfigError, StoreUnavailable
from taskflow.values.clock import SystemClock
from taskflow.web.counting import Counting
from taskflow.web.health import WebHealth
from taskflow.web.site import SiteOptions, make_site

DRAIN_S = 5  # how long requests may take to end when we are to stop; a stream never does
KEEP_ALIVE_S = 30
CORRECT_EVERY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the site listens, and the prefix under which others see it."""

    host: str
    port: int
    prefix: str = ""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def listen(self) -> socket.socket:
        """The socket that listens. Raises ConfigError."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server((self.host, self.port), family=family, backlog=2048)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"can't listen on {self.host}:{self.port}: {error}. Give another --host or --port"
            ) from None


class Prefixed:
    """An ASGI app under a prefix, whether or not a proxy has taken that off the path."""

    def __init__(self, site: ASGIApp, prefix: str) -> None:
        self.site = site
        self.prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            path = scope["path"]
            is_whole = path == self.prefix or path.startswith(f"{self.prefix}/")
            scope = {**scope, "root_path": self.prefix, "path": path if is_whole else self.prefix + path}
        await self.site(scope, receive, send)


async def serve(
    link: Connections,
    clock: SystemClock,
    options: SiteOptions,
    place: Place,
    on_started: Callable[[str], None],
    health: WebHealth | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. Raises ConfigError if the place is taken, or open to others while there is no key.

    `health` is told how it goes.
    """
    site: ASGIApp = make_site(link, options)
    if health is not None:
        site = health.counting = Counting(site)
    if place.prefix:
        site = Prefixed(site, place.prefix)
    listening = place.listen()
    try:
        if not place.is_loopback:
            await check_has_keys(link)
        config = uvicorn.Config(
            site, access_log=False, log_config=None, lifespan="off", server_header=False,
            timeout_graceful_shutdown=DRAIN_S, timeout_keep_alive=KEEP_ALIVE_S,
        )  # fmt: skip
        server = uvicorn.Server(config)
        beside = [asyncio.ensure_future(keep_correct(link, clock))]
        if health is not None:
            beside += map(asyncio.ensure_future, (health.turn(), health.ask_store(link)))
        on_started(f"http://{shown_host(place.host)}:{listening.getsockname()[1]}{place.prefix}")
        try:
            await server.serve(sockets=[listening])
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
    finally:
        listening.close()
        await link.aclose()


def shown_host(host: str) -> str:
    return "localhost" if host == "127.0.0.1" else f"[{host}]" if ":" in host else host


async def check_has_keys(link: Connections) -> None:
    """Raise ConfigError if there is no key: then nobody could use what everybody can reach. Raises StoreUnavailable."""
    async with link.session().deadline() as store:
        records, _ = await store.clients.keys_of_clients()
    if not records:
        raise ConfigError(
            "there is no key yet, so nobody could use what listens beyond this machine: make one with `taskflow keys create NAME`"
        )


async def keep_correct(link: Connections, clock: SystemClock) -> None:
    """Keep the clock that of the store. Rule S8.3."""
    while True:
        with contextlib.suppress(StoreUnavailable):
            async with link.session().deadline() as store:
                await store.correct(clock)
        await asyncio.sleep(CORRECT_EVERY_S)
