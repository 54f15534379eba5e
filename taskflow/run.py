"""`Run`, the handle of a run, with its status and the views of what is stored. Rules S10.2, S10.5."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import orjson

from taskflow.errors import RunCancelled, RunFailed, RunNotFound, RunSkipped
from taskflow.observability.run_log import current_run
from taskflow.types import Duration, Json, JsonObject, RunId
from taskflow.values.durations import parse_duration_ms
from taskflow.values.record import record
from taskflow.values.shape import ANY, Shape
from taskflow.values.stored import load
from taskflow.values.text import short

T = TypeVar("T")

if TYPE_CHECKING:
    # The default allows the annotation `Run` for a run of any function. Type checkers bring typing_extensions with them.
    from typing_extensions import TypeVar as TypeVarWithDefault

    from taskflow.codecs.codecs import Codecs

    R = TypeVarWithDefault("R", covariant=True, default=Any)
else:
    R = TypeVar("R", covariant=True)

WAITS = ("sleep", "event", "signal", "invoke")  # kinds of steps during which nothing executes


class RunStatus(StrEnum):
    """The status of a run. The last four are final."""

    SCHEDULED = "scheduled"  # waits for its start: a `ts` in the future, a debounce, a batch, a singleton
    QUEUED = "queued"  # ready, and waits for a slot
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


@record
class ErrorView:
    """A stored error: class name, message and traceback; `str()` of it is one line."""

    name: str
    message: str
    stack: str = ""

    def __str__(self) -> str:
        return short(f"{self.name}: {self.message}") if self.message else self.name

    def to_json(self) -> JsonObject:
        return {"name": self.name, "message": self.message, "stack": self.stack}


@record
class AttemptView:
    """A failed attempt of a step, or of the code outside of steps."""

    started_ms: int
    ended_ms: int
    worker: str
    error: ErrorView

    def to_json(self) -> JsonObject:
        return {
            "started_ms": self.started_ms, "ended_ms": self.ended_ms, "worker": self.worker, "error": self.error.to_json()
        }  # fmt: skip


@record(kw_only=True)
class StepView:
    """A step of a run. Times are ms since the epoch: `started_ms` of its first attempt, `last_started_ms` of its last one."""

    key: str
    kind: str  # step, sleep, event, signal, invoke
    state: str  # done, failed, wait, retry, due, dropped
    started_ms: int | None
    last_started_ms: int | None
    ended_ms: int | None
    due_ms: int | None
    attempts: int  # how many attempts have ended, the successful one included
    failed_attempts: tuple[AttemptView, ...]
    worker: str | None
    error: ErrorView | None  # the final one
    child: str | None  # the run that an invoke started
    why: str | None  # why it has no outcome yet
    is_kept: bool  # whether a rerun took its memo over from the first run
    # Of a wait without outcome: the names of the events, or of the signal, that end it.
    awaits: tuple[str, ...]
    awaits_data: JsonObject  # the least data that such an event must have
    input: Json  # its arguments, {"args": [...], "kwargs": {...}}, if they are kept; else None
    output: Json
    has_output: bool

    @property
    def is_wait(self) -> bool:
        return self.kind in WAITS

    def to_json(self) -> JsonObject:
        return {
            "key": self.key, "kind": self.kind, "state": self.state, "why": self.why, "started_ms": self.started_ms,
            "ended_ms": self.ended_ms, "due_ms": self.due_ms, "attempts": self.attempts,
            "failed_attempts": [attempt.to_json() for attempt in self.failed_attempts], "worker": self.worker,
            "child": self.child, "is_kept": self.is_kept, "input": self.input, "output": self.output,
            "error": self.error.to_json() if self.error else None,
        }  # fmt: skip


@record(kw_only=True)
class RunView:
    """A run with its steps, as they are stored. Times are ms since the epoch. Rules S10.2, S10.5."""

    run_id: str
    function: str
    status: RunStatus
    why: str | None  # why it is not executing, or where it executes; None for a completed run
    queue: str
    cause: str  # event, cron, invoke, rerun, replay
    version: str
    event: JsonObject
    batched: int  # how many events the run has; in a batch more than one, and `event` is the first
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    due_ms: int | None  # when its delayed start or its next attempt is due
    attempt: int  # the number of the attempt at the code between the steps, from 0
    worker: str | None  # the child that executes it, or executed it last
    crashes: tuple[str, ...]  # how worker processes died under it since its last progress
    rerun_of: str | None  # the run of which it is a rerun
    rerun_by: str | None  # its last rerun
    replay_id: str | None  # the replay that made it
    parent: str | None  # the run that invoked it ...
    parent_step: str | None  # ... and the step there
    output: Json
    error: ErrorView | None  # the error that ended it, or the reason why it was cancelled
    last_error: ErrorView | None  # the error of the last attempt at the code between the steps
    # Attempts at the code outside of steps since the last step that completed; of a run without steps, all (S4.7). Not in lists.
    failed_attempts: tuple[AttemptView, ...]
    # by key, in the order of the calls; "charge#1" is the second "charge" (S3.8)
    steps: Mapping[str, StepView]
    # why keys of flow control are empty for its event (S7); not in lists
    empty_keys: tuple[str, ...] = ()
    progress: JsonObject | None = None  # the last report of a task: done, total and more (S15.2)

    @property
    def is_final(self) -> bool:
        return self.status.is_final

    def duration_ms(self, now_ms: int) -> int | None:
        """The time (ms) from the first start to the end, or to now; None before the first start."""
        if self.started_ms is None:
            return None
        return (
            self.ended_ms if self.ended_ms is not None else max(now_ms, self.started_ms)
        ) - self.started_ms

    def summary_json(self, now_ms: int) -> JsonObject:
        """The run as a JSON object, as `taskflow runs list --json` shows it: without steps."""
        return {
            "run_id": self.run_id, "function": self.function, "status": self.status.value, "why": self.why, "queue": self.queue,
            "cause": self.cause, "version": self.version, "created_ms": self.created_ms, "started_ms": self.started_ms,
            "ended_ms": self.ended_ms, "duration_ms": self.duration_ms(now_ms), "due_ms": self.due_ms,
            "attempt": self.attempt, "worker": self.worker,
            "error": {"name": self.error.name, "message": self.error.message} if self.error else None,
        }  # fmt: skip

    def to_json(self, now_ms: int) -> JsonObject:
        """The run with its steps as a JSON object, as `taskflow runs show --json` shows it."""
        return {
            **self.summary_json(now_ms),
            "event": self.event, "batched": self.batched, "empty_keys": list(self.empty_keys),
            "progress": self.progress,
            "rerun_of": self.rerun_of, "rerun_by": self.rerun_by,
            "replay_id": self.replay_id, "parent": self.parent, "parent_step": self.parent_step, "crashes": list(self.crashes),
            "steps": [step.to_json() for step in self.steps.values()], "output": self.output,
            "error": self.error.to_json() if self.error else None,
            "last_error": self.last_error.to_json() if self.last_error else None,
            "failed_attempts": [attempt.to_json() for attempt in self.failed_attempts],
        }  # fmt: skip


class RunReader(Protocol):
    """The methods that the handle of a run needs to reach the store."""

    @property
    def codecs(self) -> Codecs:
        """Those with which stored values are read (S12)."""
        ...

    async def run_fields(self, run_id: str, *names: str) -> list[bytes | None]: ...

    async def view_run(self, run_id: str) -> RunView:
        """The view of a run. Raises RunNotFound."""
        ...

    def watch_run(self, run_id: str) -> AsyncGenerator[RunView]:
        """Yield the view of a run at once, and after each change, until its end. Raises RunNotFound."""
        ...

    async def wait_until_done(self, run_id: str, timeout_s: float | None) -> None:
        """Wait until the run is final. Raises TimeoutError, which says what the run waits for, after `timeout_s`."""
        ...

    async def cancel_run(self, run_id: str, reason: str) -> bool: ...

    def block_on(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the app's own loop, from sync code, and return its result."""
        ...


class Run(Generic[R]):
    """The handle of a run; `R` is the type of its result. Sync methods block; each has an async twin that starts with `a`.

    run = make_report.invoke({"month": 7})
    run.status()              # RunStatus.RUNNING
    run.result(timeout=30)    # what the handler returned
    """

    __slots__ = ("_output", "_reader", "id")

    def __init__(self, run_id: RunId, reader: RunReader, output: Shape = ANY) -> None:
        self.id = run_id
        self._output = output
        self._reader = reader

    def __repr__(self) -> str:
        return f"<Run {self.id}>"

    def status(self) -> RunStatus:
        """The status of the run. Raises RunNotFound, StoreUnavailable."""
        return self._reader.block_on(self.astatus)

    async def astatus(self) -> RunStatus:
        """See `status`."""
        (status,) = await self._reader.run_fields(self.id, "status")
        if status is None:
            raise RunNotFound(no_run(self.id))
        return RunStatus(status.decode())

    def progress(self) -> JsonObject | None:
        """The last report of a task's `ctx.progress(...)`: its `done`, `total` and more; None before the first. Rule S15.2.

        Raises RunNotFound, StoreUnavailable.
        """
        return self._reader.block_on(self.aprogress)

    async def aprogress(self) -> JsonObject | None:
        """See `progress`."""
        status, progress = await self._reader.run_fields(self.id, "status", "progress")
        if status is None:
            raise RunNotFound(no_run(self.id))
        told: JsonObject | None = orjson.loads(progress) if progress else None
        return told

    def view(self) -> RunView:
        """The run and its steps as they are stored, and why the run does not execute. Raises RunNotFound, StoreUnavailable."""
        return self._reader.block_on(self.aview)

    async def aview(self) -> RunView:
        """See `view`."""
        return await self._reader.view_run(self.id)

    def watch(self) -> Iterator[RunView]:
        """Yield the view of the run at once, and after each change, until its end. Rule S10.7.

            for view in run.watch():
                print(view.status, [step.key for step in view.steps.values()])

        Changes during the loop's body are in one view. Raises RunNotFound, StoreUnavailable.
        """
        views = self.awatch()

        async def next_view() -> RunView | None:
            return await anext(views, None)

        async def end() -> None:
            await views.aclose()

        try:
            while (view := self._reader.block_on(next_view)) is not None:
                yield view
        finally:
            self._reader.block_on(end)

    def awatch(self) -> AsyncGenerator[RunView]:
        """See `watch`: `async for view in run.awatch()`."""
        return self._reader.watch_run(self.id)

    def result(self, timeout: Duration | None = None) -> R:
        """Wait for the end, without polling, and return the result: in its type (S11.3) if the function is known, else as JSON.

            app.invoke(make_report, {"month": 7}).result(timeout="5m")

        `timeout` is a duration, by default none. Raises RunFailed, RunCancelled, RunSkipped, RunNotFound, StoreUnavailable, and
        DecodeError, and after `timeout` TimeoutError, which says what the run waits for. In async code of a run it raises
        RuntimeError: the wait would block the loop that may have to execute the very run.
        """
        refuse_on_the_loop_of_a_worker(self.id)
        return self._reader.block_on(lambda: self.aresult(timeout))

    async def aresult(self, timeout: Duration | None = None) -> R:
        """See `result`."""
        timeout_s = None if timeout is None else parse_duration_ms(timeout, what="timeout") / 1000
        await self._reader.wait_until_done(self.id, timeout_s)
        status, output, error, skipped = await self._reader.run_fields(
            self.id, "status", "output", "error", "skipped"
        )
        if status is None:
            raise RunNotFound(no_run(self.id))
        codecs = self._reader.codecs
        if status == b"completed":
            return cast(
                R,
                load(
                    await codecs.fetched(output or b"null"),
                    self._output,
                    codecs,
                    what=f"the result of run {self.id}",
                ),
            )
        if status == b"skipped":
            raise RunSkipped(self.id, (skipped or b"").decode())
        told = codecs.opened_error(orjson.loads(error or b"{}"))
        if status == b"failed":
            raise RunFailed(
                self.id, told.get("name", "Error"), told.get("message", ""), told.get("stack", "")
            )
        raise RunCancelled(self.id, told.get("message", ""))

    def cancel(self, reason: str = "cancelled by the caller") -> bool:
        """Cancel the run, at once or after its executing steps. Rule S6.2.

        Returns False if the run had ended before; `reason` is kept with the run. Raises RunNotFound, StoreUnavailable.
        """
        return self._reader.block_on(lambda: self.acancel(reason))

    async def acancel(self, reason: str = "cancelled by the caller") -> bool:
        """See `cancel`."""
        return await self._reader.cancel_run(self.id, reason)


def refuse_on_the_loop_of_a_worker(run_id: str) -> None:
    """Raise RuntimeError on a worker's event loop: to block it would stop all runs of the process."""
    if current_run.get() is None:
        return
    # Who waits for the result of a run has it imported; who only defines functions has not.
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:  # there is no loop: a `def` handler or step, on a thread of its own
        return
    raise RuntimeError(
        f"result() of run {run_id} was called in async code that a worker executes. It blocks the event loop, which may have to "
        "execute that very run. In a handler write `await step.invoke(...)`, which holds no slot while it waits; in other code "
        "`await run.aresult()`."
    )


def no_run(run_id: str) -> str:
    """The message of RunNotFound for a run that the store does not have."""
    return f"there is no run {run_id}: check the id; finished runs are removed after the retention"
