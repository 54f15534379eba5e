"""SyncHarness: the Harness for `def` tests. Its engine runs in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from taskflow.app import TaskFlow
from taskflow.event import AnyEvent, Event
from taskflow.function import Function, InvokeData, InvokeOptions
from taskflow.headers import Headers
from taskflow.portal import LoopThread
from taskflow.run import Run
from taskflow.testing.checks import CheckedRun, CheckedStep
from taskflow.testing.harness import Harness, Servers
from taskflow.testing.runs import TOLD, HarnessRun
from taskflow.testing.sent import Sent
from taskflow.testing.stubs import Error, Stub
from taskflow.testing.valkey import process_valkey
from taskflow.types import Duration, JsonObject
from taskflow.values.clock import VirtualClock

__tracebackhide__ = True  # pytest then leaves out frames of this module, and shows the test's own lines

T = TypeVar("T")


class SyncHarness:
    """The `Harness` for sync test functions: its methods need no `await`, nor do those of the runs that they return.

        def test_reminder_goes_out_after_30_days() -> None:
            with SyncHarness(app) as harness:
                run = harness.send("shop/user.created", {"id": 7})
                harness.advance(days=30)
                assert run.result() == "reminded"

    Options and errors are those of Harness. Handlers of both kinds, `async def` and `def`, can be tested with either.
    """

    def __init__(
        self,
        app: TaskFlow,
        /,
        *others: TaskFlow,
        clock: VirtualClock | None = None,
        workers: int = 1,
        concurrency: int = 100,
        deadline_s: float = 10.0,
        crons: bool = True,
        servers: Servers | None = None,
    ) -> None:
        self._harness = Harness(
            app, *others, clock=clock, workers=workers, concurrency=concurrency, deadline_s=deadline_s, crons=crons,
            servers=servers,
        )  # fmt: skip
        self._loop_thread = LoopThread("taskflow-harness")

    def __enter__(self) -> Self:
        if self._harness.servers == "embedded":
            # here, and not in the engine's thread, since it ends with the thread that starts it
            process_valkey().start()
        try:
            self._block_on(self._harness.__aenter__)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._block_on(lambda: self._harness.__aexit__(kind, error, trace))
        finally:
            self._stop()

    def _stop(self) -> None:
        """End the engine's thread and its loop."""
        self._block_on(shut_down_executor)
        self._loop_thread.stop()

    def _block_on(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return self._loop_thread.run(make)
        except TOLD as error:
            raise error.with_traceback(None) from error.__cause__

    @property
    def clock(self) -> VirtualClock:
        """The clock of the engine and the apps."""
        return self._harness.clock

    @property
    def slots_in_use(self) -> int:
        """See `Harness.slots_in_use`."""
        return self._harness.slots_in_use

    def send(
        self,
        event: str | AnyEvent | Sequence[AnyEvent],
        data: JsonObject | None = None,
        *,
        id: str | None = None,
        ts: int | None = None,
        delay: Duration | None = None,
        user: JsonObject | None = None,
        v: str | None = None,
        headers: Headers | None = None,
        app: TaskFlow | None = None,
    ) -> Sent:
        """See `Harness.send`."""
        return self._block_on(
            lambda: self._harness.send(
                event, data, id=id, ts=ts, delay=delay, user=user, v=v, headers=headers, app=app
            )
        )

    def start(
        self, function: Function[..., Any], data: InvokeData = None, **options: Unpack[InvokeOptions]
    ) -> HarnessRun:
        """See `Harness.start`."""
        return self._block_on(lambda: self._harness.start(function, data, **options))

    def run(self, function: Function[..., Any], event: Event | InvokeData = None) -> HarnessRun:
        """See `Harness.run`."""
        return self._block_on(lambda: self._harness.run(function, event))

    def finish(self, run: Run[Any] | Sent) -> None:
        """See `Harness.finish`."""
        self._block_on(lambda: self._harness.finish(run))

    def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0, ms: int = 0
    ) -> None:
        """See `Harness.advance`."""
        self._block_on(
            lambda: self._harness.advance(days=days, hours=hours, minutes=minutes, seconds=seconds, ms=ms)
        )

    def settled(self) -> None:
        """See `Harness.settled`. Call it after the test did something without the harness, like `app.send_signal(...)`."""
        self._block_on(self._harness.settled)

    def stub(
        self,
        step_id: str,
        *,
        returns: Any = None,
        raises: Error | None = None,
        calls: Callable[..., Any] | None = None,
        function: Function[..., Any] | str | None = None,
        times: int | None = None,
        required: bool = True,
    ) -> Stub:
        """See `Harness.stub`."""
        return self._harness.stub(
            step_id, returns=returns, raises=raises, calls=calls, function=function, times=times, required=required
        )  # fmt: skip

    def stub_function(
        self,
        function: Function[..., Any] | str,
        *,
        returns: Any = None,
        raises: Error | None = None,
        calls: Callable[..., Any] | None = None,
        times: int | None = None,
        required: bool = True,
    ) -> Stub:
        """See `Harness.stub_function`."""
        return self._harness.stub_function(
            function, returns=returns, raises=raises, calls=calls, times=times, required=required
        )

    def override(self, provider: Callable[..., Any], by: Callable[..., Any]) -> None:
        """See `Harness.override`."""
        self._harness.override(provider, by)

    def view(self, run: Run[Any] | Sent) -> CheckedRun:
        """See `Harness.view`."""
        return self._block_on(lambda: self._harness.view(run))

    def steps(self, run: Run[Any] | Sent) -> Mapping[str, CheckedStep]:
        """See `Harness.steps`."""
        return self._block_on(lambda: self._harness.steps(run))

    def runs(self, function: Function[..., Any]) -> list[HarnessRun]:
        """See `Harness.runs`."""
        return self._block_on(lambda: self._harness.runs(function))

    def run_of(self, function: Function[..., Any], event_id: str) -> HarnessRun:
        """See `Harness.run_of`."""
        return self._block_on(lambda: self._harness.run_of(function, event_id))


async def shut_down_executor() -> None:
    """End the loop's own threads and generators, as `asyncio.run` would."""
    loop = asyncio.get_running_loop()
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
