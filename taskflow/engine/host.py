"""Host: the services of its process that an execution needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from taskflow.codecs.codecs import Codecs
from taskflow.config import Config
from taskflow.dependencies.scopes import Lasting
from taskflow.engine.slots import Slots
from taskflow.engine.thread_pool import ThreadPool
from taskflow.observability.meter import Meter
from taskflow.store.blob_owners import BlobOwners
from taskflow.store.claims import Claims
from taskflow.store.hints import Hint
from taskflow.store.lease import Lease
from taskflow.store.refusals import Refusals
from taskflow.store.registry import Registry
from taskflow.values.clock import Clock


class Host(Protocol):
    """The process as one run sees it. The executor implements it; tests may too."""

    loop: asyncio.AbstractEventLoop
    codecs: Codecs
    blob_owners: BlobOwners
    claims: Claims
    refusals: Refusals
    registry: Registry
    clock: Clock
    config: Config
    child_id: str
    lease: Lease
    slots: Slots
    trial: asyncio.Lock  # held by the run on trial, whose next crash would be its last (S9.8)
    threads: ThreadPool  # for user code that blocks
    dependencies: Lasting  # those that last as long as the process (S11.5)
    life_level: int  # the level of log lines for starts and ends of runs
    meter: Meter | None  # counts for metrics, if anybody reads them (S13.1)

    def look_for_work(self, queue: str) -> None:
        """Look for ready runs in this queue."""
        ...

    def released(self, execution: object) -> None:
        """Forget the execution, which is over here."""
        ...

    def send_hints(self, hints: Sequence[Hint]) -> None: ...

    async def publish_events(self, events: Sequence[bytes]) -> None: ...

    def begin_grace(self, execution_id: str) -> None:
        """Give the code of a cancelled run that goes on the time to end, and end the run then. Rule S6.2."""
        ...

    def abandon_thread(self, reason: str) -> None:
        """Have the process replaced: a thread of it runs user code for which nobody waits any more. Rule S6.3."""
        ...
