"""`Connections`: the connections of an app, or of a command, to broker and store.

Modules that talk to the store are imported where they are used: a process that only defines functions or sends events needs none of
them, and would take longer to start.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from taskflow.broker.publisher import AsyncPublisher, Publisher
from taskflow.broker.topology import Topology
from taskflow.codecs.codecs import NO_CODECS, Codecs
from taskflow.config import Config
from taskflow.courier import Courier
from taskflow.errors import TaskFlowError
from taskflow.function import Function
from taskflow.portal import LoopThread
from taskflow.values.clock import Clock, SystemClock
from taskflow.values.durations import format_duration

if TYPE_CHECKING:
    from taskflow.realtime.feeds import Feeds
    from taskflow.run import RunView
    from taskflow.runs.control import RunControl
    from taskflow.sent import EventView
    from taskflow.store.hints import Hint
    from taskflow.store.session import StoreSession

T = TypeVar("T")

# The time for finding out why a run has not ended in time. If it is over, the error is raised without the reason.
REASON_TIMEOUT_S = 2.0


class Connections:
    """Broker, store and clock, for sync and async code of any thread and loop. It connects at the first use.

    Publishing declares the queue of `config.app_id`, so that events wait for the app's first worker; an empty id means no app.
    """

    def __init__(self, config: Config, *, clock: Clock | None = None, codecs: Codecs = NO_CODECS) -> None:
        self.config = config
        self.codecs = codecs
        self.clock = clock or SystemClock()
        self.publisher = Publisher(
            config.broker, app_id=config.app_id, send_timeout_ms=config.send_timeout_ms,
            topology=Topology(config.namespace),
        )  # fmt: skip
        self.async_publisher = AsyncPublisher(self.publisher)
        self.courier = Courier(self.async_publisher, self.clear_outbox)
        self.loop_thread = LoopThread("taskflow-store")
        self.sessions: dict[asyncio.AbstractEventLoop, StoreSession] = {}
        self.sessions_lock = threading.Lock()
        self.feeds_of: dict[StoreSession, Feeds] = {}

    def session(self) -> StoreSession:
        """The store session of the running loop."""
        loop = asyncio.get_running_loop()
        session = self.sessions.get(loop)
        if session is None:
            from taskflow.store.session import StoreSession

            session = StoreSession(self.config.store, self.config.namespace, self.codecs)
            with self.sessions_lock:
                self.forget_closed_loops()
                self.sessions[loop] = session
        return session

    def feeds(self) -> Feeds:
        """The readers of channels, on the running loop. Rule S17.1."""
        session = self.session()
        feeds = self.feeds_of.get(session)
        if feeds is None:
            from taskflow.realtime.feeds import Feeds

            feeds = self.feeds_of[session] = Feeds(lambda: session)
        return feeds

    def forget_closed_loops(self) -> None:
        """End the sessions of loops that were closed without closing their session."""
        for loop in [loop for loop in self.sessions if loop.is_closed()]:
            session = self.sessions.pop(loop)
            self.feeds_of.pop(session, None)
            session.abandon()

    def control(self, functions: Mapping[str, Function[Any, Any]] | None = None) -> RunControl:
        """The RunControl for the running loop; `functions` are those whose code is here."""
        from taskflow.runs.control import RunControl

        return RunControl(
            self.session(), tell=self.tell, clock=self.clock, max_event_bytes=self.config.max_event_bytes, functions=functions
        )  # fmt: skip

    async def tell(self, hints: Sequence[Hint]) -> None:
        """Tell workers of ready runs, and apps of ended ones. A failure only costs time: beat tells them again."""
        await self.courier.tell(hints)

    async def clear_outbox(self, uids: list[str]) -> None:
        async with self.session().deadline() as store:
            await store.routing.clear_outbox(uids)

    def block_on(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on a loop of our own, from sync code, and return its result."""
        return self.loop_thread.run(make)

    # --- methods for the handles of runs and events (`sent.EventReader`) ---

    async def run_fields(self, run_id: str, *names: str) -> list[bytes | None]:
        return await self.session().run_fields(run_id, *names)

    async def recent_runs(
        self, functions: Sequence[str], *, statuses: Collection[str], since_ms: int | None, limit: int
    ) -> list[RunView]:
        """The newest runs of these functions, newest first."""
        from taskflow.runs.lookup import recent_runs
        from taskflow.runs.reasons import Moment

        async with self.session().deadline() as store:
            found = await recent_runs(
                store, functions, statuses=statuses, since_ms=since_ms, limit=limit, moment=Moment(self.clock.now_ms())
            )  # fmt: skip
        return found.runs

    async def view_run(self, run_id: str) -> RunView:
        from taskflow.runs.lookup import find_run
        from taskflow.runs.reasons import Moment

        async with self.session().deadline() as store:
            return await find_run(store, run_id, Moment(self.clock.now_ms()))

    def watch_run(self, run_id: str) -> AsyncGenerator[RunView]:
        from taskflow.runs.watch import watch_run

        return watch_run(self.session, run_id, lambda: self.view_run(run_id))

    async def view_event(self, event_id: str, name: str | None = None) -> EventView:
        from taskflow.runs.events import find_event

        async with self.session().deadline() as store:
            return await find_event(store, event_id, name)

    async def wait_until_done(self, run_id: str, timeout_s: float | None) -> None:
        try:
            await self.session().wait_until_done(run_id, timeout_s)
        except TimeoutError as error:
            raise TimeoutError(await self.unfinished(run_id, timeout_s or 0)) from error

    async def unfinished(self, run_id: str, timeout_s: float) -> str:
        """The text of the error for a run that has not ended in time: what it waits for, as far as that can be found out."""
        limit = format_duration(round(timeout_s * 1000))
        try:
            async with asyncio.timeout(REASON_TIMEOUT_S):
                view = await self.view_run(run_id)
        except (TaskFlowError, TimeoutError):
            return f"run {run_id} has not ended within {limit}"
        return f"run {run_id} of {view.function} has not ended within {limit}; {view.why or view.status}"

    async def cancel_run(self, run_id: str, reason: str) -> bool:
        from taskflow.runs.control import Cancelled

        return await self.control().cancel(run_id, reason) is not Cancelled.ENDED

    # --- the end ---

    def close(self) -> None:
        """Close the connections of sync code, and end its threads. They can be used again."""
        if self.loop_thread.is_running and not self.loop_thread.is_current:
            self.loop_thread.run(self.close_session)
            self.loop_thread.stop()
        self.async_publisher.close()

    async def aclose(self) -> None:
        """Close this loop's connection to the store, and the connections and threads of sync code."""
        await self.close_session()
        self.close()

    async def close_session(self) -> None:
        session = self.sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            if (feeds := self.feeds_of.pop(session, None)) is not None:
                await feeds.close()
            await session.close()
