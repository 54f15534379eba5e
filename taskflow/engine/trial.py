"""Trial: watches runs under which processes have died. Rule S9.8.

After too many crashes without progress a run is refused. A run with one crash left executes while no other such run does in its
process, so that a crash is blamed on the right one.
"""

from __future__ import annotations

import asyncio

from taskflow.engine.owned import OwnedRun
from taskflow.errors import WorkerLost


class Trial:
    """The trial of one run under which processes have died."""

    __slots__ = ("crashes", "is_on", "lock", "max_crashes")

    def __init__(self, crashes: int, max_crashes: int, lock: asyncio.Lock) -> None:
        """`lock` is held by the run of this process that is on trial."""
        self.crashes = crashes
        self.max_crashes = max_crashes
        self.lock = lock
        self.is_on = False

    async def check_crashes(self, owned: OwnedRun) -> None:
        """Raise WorkerLost for a run under which `max_crashes` processes have died."""
        if self.crashes < self.max_crashes:
            return
        how = await owned.crash_log()
        raise WorkerLost(
            f"the worker process died {self.crashes} times while it executed this run without progress ({how}). "
            "Look for memory use, os._exit, or native code that crashes."
        )

    async def begin(self, owned: OwnedRun) -> bool:
        """If this run's next crash would be its last, wait until no other run is on trial here. False if the claim is lost."""
        if self.crashes < self.max_crashes - 1:
            return True
        await self.lock.acquire()
        self.is_on = True
        return await owned.begin_trial()

    def end(self) -> None:
        """End the trial, since the run has got on, or is over here. Safe to repeat."""
        if self.is_on:
            self.is_on = False
            self.lock.release()
