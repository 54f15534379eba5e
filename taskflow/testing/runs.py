"""HarnessRun: the handle of a run in a test. Its errors show the run's page."""

from __future__ import annotations

import contextlib
import io
from datetime import UTC
from typing import Any, TypeVar

from taskflow.app import TaskFlow
from taskflow.errors import RunCancelled, RunFailed, RunSkipped, TaskFlowError
from taskflow.run import Run, RunView
from taskflow.runs.lookup import find_run
from taskflow.runs.reasons import Moment
from taskflow.store.store import Store
from taskflow.terminal.run_page import run_page
from taskflow.terminal.screen import Screen
from taskflow.testing.engine import EngineInTest
from taskflow.types import Duration, RunId
from taskflow.values.shape import ANY

__tracebackhide__ = True  # pytest then leaves out frames of this module, and shows the test's own lines

PAGE_COLUMNS = 100
# Errors whose message says everything; their traceback through the engine would not help.
TOLD = (TaskFlowError, TimeoutError, AssertionError)

T = TypeVar("T")


class HarnessRun(Run[Any]):
    """A `Run` for tests: it does not wait for a result that can't come, and its errors show the run's page.

    With a Harness, await `aresult`, `astatus` and `acancel`; with a SyncHarness, call `result`, `status` and `cancel`.
    """

    __slots__ = ("_app", "_harness")

    def __init__(self, run_id: RunId, function_id: str, app: TaskFlow, harness: EngineInTest) -> None:
        function = app.functions.get(function_id)
        super().__init__(run_id, app._link, function.output if function else ANY)
        self._app = app
        self._harness = harness

    async def aresult(self, timeout: Duration | None = None) -> Any:
        """Return what the handler returned. The clock stands still meanwhile, so a run that sleeps needs `advance` to end.

        Raises RunFailed, RunCancelled and RunSkipped, each with the run's page; and TimeoutError, which says what the run waits
        for: at once if nothing executes, else after `timeout` (a duration, by default the harness's `deadline_s`).
        """
        self._harness.check_open()
        if timeout is None and await self._is_idle():
            raise TimeoutError(await self._unfinished())
        try:
            return await super().aresult(self._harness.deadline_s if timeout is None else timeout)
        except (RunFailed, RunCancelled, RunSkipped) as error:
            error.add_note(await self.apage())
            raise error.with_traceback(None) from error.__cause__
        except TimeoutError as error:
            raise TimeoutError(await self._unfinished()) from error

    def result(self, timeout: Duration | None = None) -> Any:
        """See `aresult`, with a SyncHarness."""
        try:
            return super().result(timeout)
        except TOLD as error:
            raise error.with_traceback(None) from error.__cause__

    async def _is_idle(self) -> bool:
        """Whether waiting is useless: the run has not ended, and will not end unless the clock or the test does something."""
        if (await self.astatus()).is_final:
            return False
        with contextlib.suppress(TimeoutError):  # a step of another run may hang
            await self._harness.settled_from_anywhere()
        return not (await self.astatus()).is_final and self._harness.slots_in_use == 0

    async def _unfinished(self) -> str:
        return f"run {self.id} has not ended. Turn the clock with advance(), or send what it waits for.\n{await self.apage()}"

    async def apage(self) -> str:
        """The run's page, as `taskflow runs show` prints it: why the run waits, its steps as a timeline, its error."""
        self._harness.check_open()
        async with self._app._link.session().deadline() as store:
            return await page_of(store, self.id, now_ms=self._harness.clock.now_ms())

    def page(self) -> str:
        """See `apage`."""
        return self._app._link.block_on(self.apage)


async def page_of(store: Store, run_id: str, *, now_ms: int) -> str:
    """The page of a run as text. Raises RunNotFound."""
    return page_text(await find_run(store, run_id, Moment(now_ms, UTC)), now_ms=now_ms)


def page_text(view: RunView, *, now_ms: int) -> str:
    """The page of a run without colours, `PAGE_COLUMNS` wide."""
    stream = io.StringIO()
    Screen(stream).print(
        run_page(view, now_ms=now_ms, width=PAGE_COLUMNS, zone=UTC, how_to_see="harness.view(run) has it")
    )
    return stream.getvalue().rstrip()
