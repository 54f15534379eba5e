"""What an execution needs of the child process it lives in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from taskflow.config import Config
from taskflow.engine.slots import Slots
from taskflow.engine.thread_pool import ThreadPool
from taskflow.store.claims import Claims
from taskflow.store.hints import Hint
from taskflow.store.lease import Lease
from taskflow.store.registry import Registry
from taskflow.values.clock import Clock


class Host(Protocol):
    """The seam between one run and its process; the executor implements it, tests may too."""

    loop: asyncio.AbstractEventLoop
    claims: Claims
    registry: Registry
    clock: Clock
    config: Config
    child_id: str
    lease: Lease
    slots: Slots
    trial: asyncio.Lock  # held by the one run on trial: its next crash would be its last (S9.8)
    threads: ThreadPool  # for user code that blocks
    life_level: int  # of the log lines that tell of starts and ends of runs

    def look_for_work(self, queue: str) -> None:
        """This queue may have runs that can execute now."""
        ...

    def released(self, execution: object) -> None:
        """The execution is over here."""
        ...

    def send_hints(self, hints: Sequence[Hint]) -> None: ...

    async def publish_events(self, events: Sequence[bytes]) -> None: ...

    def abandon_thread(self, reason: str) -> None:
        """A thread runs user code that nobody waits for any more; the process is to be replaced. Rule S6.3."""
        ...
