"""Sent: the result of `harness.send`, the events' ids and their runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from taskflow.run import RunStatus, RunView
from taskflow.sent import EventView
from taskflow.testing.runs import HarnessRun
from taskflow.types import Duration, RunId
from taskflow.values.ids import run_id_for

__tracebackhide__ = True  # pytest then leaves out frames of this module, and shows the test's own lines


class Sent(list[str]):
    """The ids of the events, as `app.send` returns them, and the runs that the events led to.

        run = await harness.send("shop/user.created", {"id": 7})    # one event, one run: use it as that run
        assert await run.aresult() == "welcomed"

        sent = await harness.send("shop/order.created", {"id": 7})  # several functions listen
        welcome, invoice = sent.runs

    `runs` are in the order of the events, and for one event in that of the functions' ids; runs that flow control skipped are among
    them. For a batch or debounce it is the run that has the event now. With one run, the object can be used as that run.
    """

    def __init__(self, ids: Sequence[str], runs: Sequence[HarnessRun]) -> None:
        super().__init__(ids)
        self.runs = list(runs)

    @property
    def run(self) -> HarnessRun:
        """The only run of the events. Raises LookupError if there is none, or more than one."""
        if len(self.runs) == 1:
            return self.runs[0]
        if not self.runs:
            raise LookupError(
                f"the events {list(self)} started no run: is the name a function's trigger, does its expression hold, and is the "
                "function's app in the harness?"
            )
        raise LookupError(
            f"the events {list(self)} started {len(self.runs)} runs, {[run.id for run in self.runs]}: say which one you mean, "
            "as in sent.runs[0] or harness.run_of(function, event_id)"
        )

    @property
    def id(self) -> RunId:
        """The id of the only run. Raises LookupError if there is none, or more than one."""
        return self.run.id

    async def aresult(self, timeout: Duration | None = None) -> Any:
        """Return the result of the only run; see `HarnessRun.aresult`."""
        return await self.run.aresult(timeout)

    def result(self, timeout: Duration | None = None) -> Any:
        """See `aresult`, with a SyncHarness."""
        return self.run.result(timeout)

    async def astatus(self) -> RunStatus:
        """The status of the only run."""
        return await self.run.astatus()

    def status(self) -> RunStatus:
        """See `astatus`, with a SyncHarness."""
        return self.run.status()

    async def aview(self) -> RunView:
        """What is stored of the one run."""
        return await self.run.aview()

    def view(self) -> RunView:
        """See `aview`, with a SyncHarness."""
        return self.run.view()

    async def acancel(self, reason: str = "cancelled by the caller") -> bool:
        """Cancel the one run; False when it has ended already."""
        return await self.run.acancel(reason)

    def cancel(self, reason: str = "cancelled by the caller") -> bool:
        """See `acancel`, with a SyncHarness."""
        return self.run.cancel(reason)


def runs_of_event(event: EventView) -> Iterator[tuple[str, RunId]]:
    """The id of each function that the event reached, with the id of its run; skipped runs are recorded, and so included."""
    for function_id in sorted({*event.started, *event.skipped}):
        yield function_id, RunId(event.started.get(function_id) or run_id_for(event.uid, function_id))
