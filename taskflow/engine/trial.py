"""Runs under which processes died. Rule S9.8.

After too many crashes without progress a run is refused. A run with one crash left executes while no other such run does in its
process, so that a crash is blamed on the right one.
"""

from __future__ import annotations

import asyncio

from taskflow.engine.owned import Owned, OwnedRun
from taskflow.errors import WorkerLost


class Trial:
    """Of one resident run that has crashed."""

    __slots__ = ("crashes", "is_on", "lock", "max_crashes")

    def __init__(self, crashes: int, *, max_crashes: int, lock: asyncio.Lock) -> None:
        """`lock` is held by the one run of the process that is on trial."""
        self.crashes = crashes
        self.max_crashes = max_crashes
        self.lock = lock
        self.is_on = False

    async def check_crashes(self, owned: Owned) -> None:
        """Refuse a run under which process after process died."""
        if self.crashes < self.max_crashes:
            return
        how = await owned.crash_log()
        raise WorkerLost(
            f"the worker process died {self.crashes} times while it executed this run without progress ({how}). "
            "Look for memory use, os._exit, or native code that crashes."
        )

    async def begin(self, owned: OwnedRun) -> bool:
        """Wait until no other run is on trial here, if the next crash of this one would be its last. False: the claim is lost."""
        if self.crashes < self.max_crashes - 1:
            return True
        await self.lock.acquire()
        self.is_on = True
        return await owned.begin_trial()

    def end(self) -> None:
        """The run has got on, or is over here. Safe to repeat."""
        if self.is_on:
            self.is_on = False
            self.lock.release()
