"""Listens on pub/sub channels, over one connection for a whole process: scripts PUBLISH there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from taskflow.redis.address import parse_server_url
from taskflow.redis.client import StoreClient
from taskflow.redis.connection import Argument

OnMessage = Callable[[str], None]

PING_EVERY_S = 15.0
"""How often a silent connection is pinged. Channels may be silent for ever, so only an unanswered PING shows that it is dead."""


class Subscriber:
    """Calls the listeners of channels. Messages are lost while the connection is down: see `client.on_reconnect`."""

    def __init__(self, url: str) -> None:
        self.listeners: dict[str, set[OnMessage]] = {}
        self.client = StoreClient(
            parse_server_url(url, what="store"),
            on_connected=self.subscribe_commands,
            on_push=self.dispatch,
            log_level=logging.DEBUG,
        )
        self.next_ping: asyncio.TimerHandle | None = None

    def subscribe_commands(self) -> Sequence[tuple[Argument, ...]]:
        return [("SUBSCRIBE", channel) for channel in self.listeners]

    async def connect(self, *, timeout_s: float = 3.0) -> None:
        await self.client.connect(timeout_s=timeout_s)
        self.ping()

    def ping(self) -> None:
        """Ping the server every `PING_EVERY_S`, so that the client notices a dead connection."""
        if not self.client.in_flight and not self.client.unsent:
            self.client.call("PING").add_done_callback(retrieve)
        self.next_ping = self.client.loop.call_later(PING_EVERY_S, self.ping)

    async def listen(self, channel: str, on_message: OnMessage) -> None:
        """Call `on_message(text)` for each message of the channel. Once this returns, no message is missed."""
        listeners = self.listeners.setdefault(channel, set())
        listeners.add(on_message)
        if len(listeners) == 1:
            await self.client.call("SUBSCRIBE", channel)

    def unlisten(self, channel: str, on_message: OnMessage) -> None:
        listeners = self.listeners.get(channel)
        if listeners is None:
            return
        listeners.discard(on_message)
        if not listeners:
            del self.listeners[channel]
            self.client.call("UNSUBSCRIBE", channel).add_done_callback(retrieve)

    def dispatch(self, push: list[Any]) -> None:
        for on_message in tuple(self.listeners.get(push[1].decode(), ())):
            on_message(push[2].decode())

    async def close(self) -> None:
        if self.next_ping is not None:
            self.next_ping.cancel()
        await self.client.close()


def retrieve(future: asyncio.Future[Any]) -> None:
    """Mark the error of a PING as seen: nobody needs the reply, and an error only means that the connection is gone."""
    if not future.cancelled():
        future.exception()
