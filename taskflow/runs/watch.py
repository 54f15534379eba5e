"""Watches a run: yields its view each time it has changed. Rule S10.7.

Scripts publish changes of a run only while it is watched, so a run that nobody watches costs nothing. A message says that something
is new, but not what: the view is read from the store, now and then also without a message. So a lost message or connection does no
harm, and a slow reader gets several changes at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from taskflow.errors import RunNotFound
from taskflow.run import RunStatus, RunView, no_run
from taskflow.store.session import StoreSession

LOOK_EVERY_S = 2.0  # how often the run is read without a message
MARK_EVERY_S = 10.0  # how often the run is marked as watched: the mark may go while the connection is lost


async def watch_run(
    session_here: Callable[[], StoreSession], run_id: str, view: Callable[[], Awaitable[RunView]]
) -> AsyncGenerator[RunView]:
    """Yield what `view` reads, at once and after each change; the last view is that of the run's end.

    `session_here` returns the session of the running loop. Raises RunNotFound, StoreUnavailable.
    """
    session = session_here()
    store = await session.store()
    keys, loop = store.keys, asyncio.get_running_loop()
    last: RunView | None = None
    marked_s = float("-inf")
    async with session.listen(keys.watch_channel(run_id), keys.done_channel(run_id)) as told:
        while True:
            told.clear()
            if loop.time() - marked_s >= MARK_EVERY_S:
                await mark(session, run_id)
                marked_s = loop.time()
            now = await view()
            if (facts := facts_of(now)) != last:
                last = facts
                yield now
            if now.is_final:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await told.wait()


def facts_of(view: RunView) -> RunView:
    """The view without the reasons for waiting, which name the time that is left, and so change all the time."""
    steps = {key: replace(step, why=None) for key, step in view.steps.items()}
    return replace(view, why=view.why if view.status is RunStatus.RUNNING else None, steps=steps)


async def mark(session: StoreSession, run_id: str) -> None:
    async with session.deadline() as store:
        if not await store.steering.watch(run_id):
            raise RunNotFound(no_run(run_id))
