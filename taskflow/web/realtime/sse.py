"""A subscription as server-sent events, which a browser's `EventSource` resumes by itself. Rule S17.3."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from starlette.types import Receive, Send

from taskflow.connections import Connections
from taskflow.realtime.tokens import Grant
from taskflow.web.api.answers import HEADERS
from taskflow.web.api.stream import until_gone
from taskflow.web.realtime.frames import HEARTBEAT, as_event, closing_frame
from taskflow.web.realtime.watching import Place, Watch

logger = logging.getLogger("taskflow.web")

CLOSING_S = 1.0  # how long the last frame may take: a subscriber that does not read never takes it


class Events:
    """Sends frames as events of one answer."""

    def __init__(self, send: Send) -> None:
        self.raw_send = send

    async def write(self, body: bytes, *, more: bool = True) -> None:
        await self.raw_send({"type": "http.response.body", "body": body, "more_body": more})

    async def send(self, frames: Sequence[tuple[bytes, int | None]]) -> None:
        await self.write(b"".join([as_event(frame, message_id) for frame, message_id in frames]))

    async def idle(self) -> None:
        await self.write(HEARTBEAT)


async def serve_events(
    link: Connections,
    grant: Grant,
    place: Place,
    receive: Receive,
    send: Send,
    *,
    heartbeat_s: float,
    who: str,
) -> None:
    """Answer a request with all that the grant allows, until it is over."""
    # x-accel-buffering: nginx would keep the events back.
    headers = {
        **HEADERS, "content-type": "text/event-stream", "x-accel-buffering": "no", "access-control-allow-origin": "*",
    }  # fmt: skip
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": raw})
    events = Events(send)
    # So that the subscriber knows at once that it is connected.
    await events.idle()
    reason = await Watch(link, events, heartbeat_s, asyncio.Lock()).until_over(
        grant, place, until_gone(receive)
    )
    if reason:
        logger.info("the subscription of %s ends: %s", who, reason)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_S):
                await events.write(as_event(closing_frame(reason)))
                await events.write(b"", more=False)
