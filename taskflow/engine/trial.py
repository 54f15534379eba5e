"""Runs under which processes died. Rule S9.8.

After too many crashes without progress a run is refused. One whose next crash would be its last executes alone of its kind in its
process, until it gets on: so the innocent go free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskflow.engine.closing import Ending
from taskflow.errors import Suspend, WorkerLost

if TYPE_CHECKING:
    from taskflow.engine.execution import Execution


class Trial:
    """Of one resident run that has crashed."""

    __slots__ = ("execution", "is_on")

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.is_on = False

    async def check_crashes(self) -> None:
        """Refuse a run under which process after process died."""
        claimed, host = self.execution.claimed, self.execution.host
        if claimed.crashes < host.config.max_crashes:
            return
        how = await self.execution.ask(host.claims.crash_log(self.execution.run_id))
        raise WorkerLost(
            f"the worker process died {claimed.crashes} times while it executed this run without progress ({how}). "
            "Look for memory use, os._exit, or native code that crashes."
        )

    async def begin(self) -> None:
        """Wait until no other run is on trial here, if the next crash of this one would be its last."""
        claimed, host = self.execution.claimed, self.execution.host
        if claimed.crashes < host.config.max_crashes - 1:
            return
        await host.trial.acquire()
        self.is_on = True
        if not await self.execution.ask(host.claims.begin_trial(self.execution.claim)):
            self.execution.stop(Ending.FENCED)
            raise Suspend

    def end(self) -> None:
        """The run has got on, or is over here. Safe to repeat."""
        if self.is_on:
            self.is_on = False
            self.execution.host.trial.release()
