"""`Run`: a run as the code that started it sees it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import orjson

from taskflow.errors import RunCancelled, RunFailed, RunNotFound, RunSkipped
from taskflow.types import Duration, RunId
from taskflow.values.durations import parse_duration_ms
from taskflow.values.json import from_json

T = TypeVar("T")


class RunStatus(StrEnum):
    """Where a run is. The last four are final."""

    SCHEDULED = "scheduled"  # its time has not come: a `ts` in the future, a debounce, a batch, a singleton
    QUEUED = "queued"  # ready, waits for a slot
    RUNNING = "running"
    WAITING = "waiting"  # sleeps, waits for an event or another run, or for its next attempt
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"  # refused by flow control, or its function was paused

    @property
    def is_final(self) -> bool:
        return self in FINAL


FINAL = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.SKIPPED})


class RunReader(Protocol):
    """What a handle needs of the app."""

    async def run_fields(self, run_id: str, *names: str) -> list[bytes | None]: ...

    async def wait_until_done(self, run_id: str, timeout_s: float | None) -> None:
        """Return when the run is final; TimeoutError when it takes longer."""
        ...

    async def cancel_run(self, run_id: str, reason: str) -> bool: ...

    def block_on(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the app's own loop, from sync code."""
        ...


class Run:
    """A run, by its id. Sync methods block; each has an async twin that starts with `a`.

    run = app.invoke(make_report, {"month": 7})
    run.status()              # RunStatus.RUNNING
    run.result(timeout=30)    # what the handler returned
    """

    __slots__ = ("_reader", "id")

    def __init__(self, run_id: RunId, reader: RunReader) -> None:
        self.id = run_id
        self._reader = reader

    def __repr__(self) -> str:
        return f"<Run {self.id}>"

    def status(self) -> RunStatus:
        """Where the run is. Raises RunNotFound, StoreUnavailable."""
        return self._reader.block_on(self.astatus)

    async def astatus(self) -> RunStatus:
        """See `status`."""
        (status,) = await self._reader.run_fields(self.id, "status")
        if status is None:
            raise self.not_found()
        return RunStatus(status.decode())

    def result(self, timeout: Duration | None = None) -> Any:
        """Wait for the end, without polling, and return the handler's result.

        Raises RunFailed, RunCancelled, RunSkipped, RunNotFound, StoreUnavailable, and TimeoutError after `timeout`.
        """
        return self._reader.block_on(lambda: self.aresult(timeout))

    async def aresult(self, timeout: Duration | None = None) -> Any:
        """See `result`."""
        timeout_s = None if timeout is None else parse_duration_ms(timeout, what="timeout") / 1000
        await self._reader.wait_until_done(self.id, timeout_s)
        status, output, error, skipped = await self._reader.run_fields(
            self.id, "status", "output", "error", "skipped"
        )
        if status is None:
            raise self.not_found()
        if status == b"completed":
            return from_json(output or b"null")
        if status == b"skipped":
            raise RunSkipped(self.id, (skipped or b"").decode())
        told = orjson.loads(error or b"{}")
        if status == b"failed":
            raise RunFailed(
                self.id, told.get("name", "Error"), told.get("message", ""), told.get("stack", "")
            )
        raise RunCancelled(self.id, told.get("message", ""))

    def cancel(self, reason: str = "cancelled by the caller") -> bool:
        """Cancel the run, at once or after its running steps (S6.2). False when it had ended. Raises RunNotFound."""
        return self._reader.block_on(lambda: self.acancel(reason))

    async def acancel(self, reason: str = "cancelled by the caller") -> bool:
        """See `cancel`."""
        return await self._reader.cancel_run(self.id, reason)

    def not_found(self) -> RunNotFound:
        return RunNotFound(
            f"there is no run {self.id}: check the id; finished runs are removed after the retention"
        )
