"""Watching a run: its view each time something of it has changed. Rule S10.7.

The store tells the run's channel of changes only while somebody listens there, so a run that nobody watches costs nothing. A
message says that there is something new, not what: that is read from the store, now and then without a message too. So neither a
lost message nor a lost connection does harm, and a slow reader gets several changes at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from taskflow.errors import RunNotFound
from taskflow.run import RunStatus, RunView, no_run
from taskflow.store.session import StoreSession

LOOK_EVERY_S = 2.0  # without a message
MARK_EVERY_S = 10.0  # the store may have taken the mark away while the connection was lost


async def watch_run(
    session_here: Callable[[], StoreSession], run_id: str, view: Callable[[], Awaitable[RunView]]
) -> AsyncGenerator[RunView]:
    """What `view` reads of the run, at once and after each change; the last one is that of its end.

    `session_here` gives the session of the loop that it runs on. Raises RunNotFound, StoreUnavailable.
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
    """A view without the reasons for waiting: they tell how long that will be, so they change all the time."""
    steps = {key: replace(step, why=None) for key, step in view.steps.items()}
    return replace(view, why=view.why if view.status is RunStatus.RUNNING else None, steps=steps)


async def mark(session: StoreSession, run_id: str) -> None:
    async with session.deadline() as store:
        if not await store.steering.watch(run_id):
            raise RunNotFound(no_run(run_id))
