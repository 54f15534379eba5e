"""A subscription over a WebSocket, as Inngest's clients ask for it. Rule S17.3."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from starlette.websockets import WebSocket, WebSocketDisconnect

from taskflow.connections import Connections
from taskflow.realtime.tokens import Grant
from taskflow.web.realtime.frames import closing_frame
from taskflow.web.realtime.sse import CLOSING_S
from taskflow.web.realtime.watching import Place, Watch

logger = logging.getLogger("taskflow.web")

GOING_AWAY = 1001
REFUSED = 1008  # a policy: the token
PING = '{"kind":"ping"}'


class SocketFrames:
    """Sends each frame as a text message."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket

    async def send(self, frames: Sequence[tuple[bytes, int | None]]) -> None:
        for frame, _ in frames:
            await self.socket.send_text(frame.decode())

    async def idle(self) -> None:
        await self.socket.send_text(PING)


async def serve_socket(
    link: Connections, grant: Grant, place: Place, socket: WebSocket, *, heartbeat_s: float, who: str
) -> None:
    """Send all that the grant allows, until it is over."""
    await socket.accept()
    reason = await Watch(link, SocketFrames(socket), heartbeat_s, asyncio.Lock()).until_over(
        grant, place, until_closed(socket)
    )
    if reason:
        logger.info("the subscription of %s ends: %s", who, reason)
        with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(CLOSING_S):
                await socket.send_text(closing_frame(reason).decode())
                await socket.close(GOING_AWAY, reason[:100])


async def until_closed(socket: WebSocket) -> None:
    """Return when the client has gone away. What it sends is of no interest."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
