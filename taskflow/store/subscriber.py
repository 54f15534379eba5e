"""A connection that listens: what scripts PUBLISH, for one process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from taskflow.store.client import Argument, StoreClient
from taskflow.urls import parse_server_url

OnMessage = Callable[[str], None]


class Subscriber:
    """Channels and who listens to them. Messages are lost while the connection is: see `on_reconnect`."""

    def __init__(self, url: str) -> None:
        self.listeners: dict[str, set[OnMessage]] = {}
        self.client = StoreClient(
            parse_server_url(url, what="store"),
            on_connected=self.subscribe_commands,
            on_push=self.dispatch,
            longest_wait_s=None,
            log_level=logging.DEBUG,
        )

    def subscribe_commands(self) -> Sequence[tuple[Argument, ...]]:
        return [("SUBSCRIBE", channel) for channel in self.listeners]

    async def connect(self, *, timeout_s: float = 3.0) -> None:
        await self.client.connect(timeout_s=timeout_s)

    async def listen(self, channel: str, on_message: OnMessage) -> None:
        """Call `on_message(text)` for each message from now on; when this returns, none is missed."""
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
        if push[0] == b"message":
            for on_message in tuple(self.listeners.get(push[1].decode(), ())):
                on_message(push[2].decode())

    async def close(self) -> None:
        await self.client.close()


def retrieve(future: asyncio.Future[Any]) -> None:
    """Nobody needs the reply, and an error only means that the connection is gone."""
    if not future.cancelled():
        future.exception()
