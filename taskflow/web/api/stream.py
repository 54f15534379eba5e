"""Server-sent events: a run as it goes on, until its end. Rules S10.7, S14.2."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress

import orjson
from starlette.types import Receive, Scope, Send

from taskflow.connections import Connections
from taskflow.errors import TaskFlowError
from taskflow.run import RunView
from taskflow.web.api.answers import HEADERS, as_problem

HEARTBEAT_S = 15.0  # proxies close a connection on which nothing comes for a minute or less
HEARTBEAT = b": still here\n\n"


def message(name: str, value: object, number: int) -> bytes:
    """One event of the stream."""
    return b"event: %b\nid: %d\ndata: %b\n\n" % (name.encode(), number, orjson.dumps(value))


async def run_messages(link: Connections, run_id: str, *, heartbeat_s: float) -> AsyncIterator[bytes]:
    """The run at once and after each change, as events `run`; the last view is the event `end`. An error is an event `problem`."""
    number = 0
    async with aclosing(link.watch_run(run_id)) as views:
        try:
            async for view in with_pauses(views, heartbeat_s):
                if view is None:
                    yield HEARTBEAT
                    continue
                number += 1
                name = "end" if view.is_final else "run"
                yield message(name, view.to_json(link.clock.now_ms()), number)
        except TaskFlowError as error:
            yield message("problem", as_problem(error).to_json(), number + 1)


async def with_pauses(views: AsyncIterator[RunView], pause_s: float) -> AsyncIterator[RunView | None]:
    """The views, and None whenever none has come for `pause_s`."""
    following: asyncio.Future[RunView] | None = None
    try:
        while True:
            if following is None:
                following = asyncio.ensure_future(anext(views))
            done, _ = await asyncio.wait({following}, timeout=pause_s)
            if not done:
                yield None
                continue
            try:
                view = following.result()
            except StopAsyncIteration:
                return
            following = None
            yield view
    finally:
        if following is not None:
            following.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration, TaskFlowError):
                await following


class EventStream:
    """An ASGI answer that sends what `messages` gives, and ends it when the client goes away."""

    def __init__(self, messages: Callable[[], AsyncIterator[bytes]]) -> None:
        self.messages = messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self.send_all(send))
        leaving = asyncio.ensure_future(until_gone(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
        if not sending.cancelled():
            sending.result()

    async def send_all(self, send: Send) -> None:
        # x-accel-buffering: nginx would keep the events back.
        headers = {**HEADERS, "content-type": "text/event-stream", "x-accel-buffering": "no"}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        async with aclosing(self.messages()) as messages:  # type: ignore[type-var]
            async for body in messages:
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def until_gone(receive: Receive) -> None:
    """Return when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass
