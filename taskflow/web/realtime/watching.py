"""Watching: sends one subscriber what its token allows, until it leaves, its token expires, or it reads too slowly. Rule S17.3."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from taskflow.connections import Connections
from taskflow.errors import ReaderTooSlow, TaskFlowError
from taskflow.realtime.reading import read_channel
from taskflow.realtime.tokens import Grant
from taskflow.run import StepView
from taskflow.web.realtime.frames import after_gap, data_frame, position_frame, state_frame

SEND_TIMEOUT_S = 20.0  # a subscriber that takes nothing for this long is dropped
OF_RUNS = ("$run", "$step")
EXPIRED = "the subscription token has expired"
TOO_SLOW = "the subscriber reads too slowly"


class Place(NamedTuple):
    """Where in a channel a subscriber begins: after the message with this id, or since a time; else now."""

    after: int | None = None
    since_ms: int | None = None


class Outlet(Protocol):
    """How frames leave: as server-sent events, or over a WebSocket."""

    async def send(self, frames: Sequence[tuple[bytes, int | None]]) -> None:
        """Send frames, each with the id of its message, if it is one. Returns once the connection has taken them."""
        ...

    async def idle(self) -> None:
        """Send something that keeps the connection alive."""
        ...


@dataclass(frozen=True, slots=True)
class Watch:
    """One subscriber: its connection, and what it may see."""

    link: Connections
    outlet: Outlet
    heartbeat_s: float
    lock: asyncio.Lock

    async def until_over(self, grant: Grant, place: Place, gone: Awaitable[Any]) -> str:
        """Send what the grant allows until something ends it; why it ended, or "" if the subscriber has left."""
        works = [*self.works(grant, place), self.keep_alive(grant)]
        tasks = [asyncio.ensure_future(work) for work in works]
        leaving = asyncio.ensure_future(gone)
        try:
            done, _ = await asyncio.wait({*tasks, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, leaving):
                task.cancel()
            await asyncio.gather(*tasks, leaving, return_exceptions=True)
        return "" if leaving in done else reason_of(done.pop())

    def works(self, grant: Grant, place: Place) -> list[Coroutine[Any, Any, None]]:
        works = []
        for channel in grant.channels:
            names = {each.name for each in grant.topics if each.channel == channel}
            if of_run := names.intersection(OF_RUNS):
                works.append(self.send_run(channel, of_run))
            if topics := names.difference(OF_RUNS):
                works.append(self.send_messages(channel, () if "" in topics else tuple(topics), place))
        return works

    async def send_messages(self, channel: str, topics: Sequence[str], place: Place) -> None:
        async with aclosing(
            read_channel(self.link.feeds(), channel, topics, after=place.after, since_ms=place.since_ms)
        ) as batches:
            async for batch in batches:
                if not batch.messages:
                    await self.within_time(
                        self.outlet.send([(position_frame(channel, batch.last), batch.last)])
                    )
                    continue
                frames: list[tuple[bytes, int | None]] = [
                    (data_frame(channel, message), message.id) for message in batch.messages
                ]
                if batch.is_after_gap:
                    frames[0] = (after_gap(frames[0][0]), frames[0][1])
                await self.within_time(self.outlet.send(frames))

    async def send_run(self, run_id: str, topics: set[str]) -> None:
        """The run, and its steps that have changed, at once and after each change. It stays after the end of the run."""
        known: dict[str, StepView] = {}
        async with aclosing(self.link.watch_run(run_id)) as views:
            async for view in views:
                now_ms, frames = self.link.clock.now_ms(), []
                if "$step" in topics:
                    frames += [
                        (state_frame("step", run_id, step.to_json(), now_ms), None)
                        for key, step in view.steps.items()
                        if known.get(key) != step
                    ]
                    known = dict(view.steps)
                if "$run" in topics:
                    frames.append((state_frame("run", run_id, view.to_json(now_ms), now_ms), None))
                await self.within_time(self.outlet.send(frames))
        await asyncio.Event().wait()

    async def keep_alive(self, grant: Grant) -> None:
        """Ends when the token expires."""
        while (left_s := (grant.expires_ms - self.link.clock.now_ms()) / 1000) > 0:
            await asyncio.sleep(min(self.heartbeat_s, left_s))
            await self.within_time(self.outlet.idle())

    async def within_time(self, sending: Awaitable[None]) -> None:
        """Send one thing at a time. Raises ReaderTooSlow when the connection does not take it."""
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S), self.lock:
                await sending
        except TimeoutError:
            raise ReaderTooSlow(f"the subscriber took nothing for {SEND_TIMEOUT_S:g} s") from None


def reason_of(task: asyncio.Future[Any]) -> str:
    """Why a part of a watch has ended. Raises what nobody expects."""
    error = task.exception()
    if error is None:
        return EXPIRED
    if isinstance(error, ReaderTooSlow):
        return f"{TOO_SLOW}: {error}"
    if isinstance(error, TaskFlowError):
        return str(error)
    raise error
