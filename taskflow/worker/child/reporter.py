"""Reporter: tells the supervisor once a second what this process has counted. Rule S13.1."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from taskflow.engine.executor import Executor
from taskflow.observability.families import MEMORY, RUNS_HELD, SLOTS
from taskflow.observability.meter import Meter
from taskflow.worker.link import ChildLink
from taskflow.worker.messages import Counted

INTERVAL_S = 1.0
GOODBYE_S = 1.0  # how long the end of the process waits for a supervisor that does not read
STATM = Path("/proc/self/statm")


class Reporter:
    """Sends what a meter has counted. It begins no message while the one before waits, so what is counted waits in the meter."""

    def __init__(self, meter: Meter, link: ChildLink, executor: Executor) -> None:
        self.meter = meter
        self.link = link
        self.executor = executor
        self.loop = asyncio.get_running_loop()
        self.sending: asyncio.Future[Any] | None = None
        self.plan()

    def plan(self) -> None:
        self.due_s = self.loop.time() + INTERVAL_S
        self.timer = self.loop.call_at(self.due_s, self.tick)

    def tick(self) -> None:
        self.meter.loop_lagged(self.loop.time() - self.due_s)
        self.send()
        self.plan()

    def send(self) -> None:
        if self.sending is not None and not self.sending.done():
            return
        tally, slots = self.meter.tally, self.executor.slots
        tally.set(SLOTS, slots.count - slots.free, "busy")
        tally.set(SLOTS, slots.free, "free")
        tally.set(RUNS_HELD, len(self.executor.executions))
        if (used := resident_bytes()) is not None:
            tally.set(MEMORY, used)
        told = Counted(tally.take().to_json())
        # In a thread, since a full pipe blocks until the supervisor reads, and that may wait for the store.
        self.sending = self.loop.run_in_executor(None, self.link.send, told)

    async def finish(self) -> None:
        """Send the rest."""
        self.timer.cancel()
        try:
            async with asyncio.timeout(GOODBYE_S):
                if self.sending is not None:
                    await self.sending
                self.send()
                if self.sending is not None:
                    await self.sending
        except TimeoutError:
            return


def resident_bytes() -> int | None:
    """The memory of this process that is resident; None where the system does not tell it so."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
