"""A run as the code that started it sees it: its status, what is stored of it, and `Run`, the handle. Rules S10.2, S10.5."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import orjson

from taskflow.errors import RunCancelled, RunFailed, RunNotFound, RunSkipped
from taskflow.observability.run_log import current_run
from taskflow.types import Duration, Json, JsonObject, RunId
from taskflow.values.durations import parse_duration_ms
from taskflow.values.shape import ANY, Shape
from taskflow.values.stored import load
from taskflow.values.text import short

T = TypeVar("T")

if TYPE_CHECKING:
    # The default lets an annotation say `Run` for a run of any function. Type checkers bring typing_extensions along.
    from typing_extensions import TypeVar as TypeVarWithDefault

    R = TypeVarWithDefault("R", covariant=True, default=Any)
else:
    R = TypeVar("R", covariant=True)

WAITS = ("sleep", "event", "signal", "invoke")  # kinds of steps during which nothing executes


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


@dataclass(frozen=True, slots=True)
class ErrorView:
    """An error as it was stored; `str()` is one line."""

    name: str
    message: str
    stack: str = ""

    def __str__(self) -> str:
        return short(f"{self.name}: {self.message}") if self.message else self.name

    def to_json(self) -> JsonObject:
        return {"name": self.name, "message": self.message, "stack": self.stack}


@dataclass(frozen=True, slots=True)
class AttemptView:
    """An attempt that failed, of a step or of the code outside of steps."""

    started_ms: int
    ended_ms: int
    worker: str
    error: ErrorView

    def to_json(self) -> JsonObject:
        return {
            "started_ms": self.started_ms, "ended_ms": self.ended_ms, "worker": self.worker, "error": self.error.to_json()
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """One step. `started_ms` is the start of its first attempt, `last_started_ms` that of the one that ended it."""

    key: str
    kind: str  # step, sleep, event, signal, invoke
    state: str  # done, failed, wait, retry, due, dropped
    started_ms: int | None
    last_started_ms: int | None
    ended_ms: int | None
    due_ms: int | None
    attempts: int  # that have ended, the successful one included
    failed_attempts: tuple[AttemptView, ...]
    worker: str | None
    error: ErrorView | None  # the final one
    child: str | None  # the run that an invoke started
    why: str | None  # why it has no outcome yet
    is_kept: bool  # its memo was taken over from the run that this one is a rerun of
    input: Json  # its arguments, {"args": [...], "kwargs": {...}}, where it keeps them; else None
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run with its steps, in the order in which the handler called them."""

    run_id: str
    function: str
    status: RunStatus
    why: str | None  # why it is not executing, or where it is; None for one that completed
    queue: str
    cause: str  # event, cron, invoke, rerun, replay
    version: str
    event: JsonObject
    batched: int  # how many events the run has: more than one in a batch, of which `event` is the first
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    due_ms: int | None  # when its delayed start or its next attempt is due
    attempt: int  # of the code between the steps, from 0
    worker: str | None  # the child that executes it, or did so last
    crashes: tuple[str, ...]  # how worker processes died under it since its last progress
    rerun_of: str | None  # the run that it makes anew
    rerun_by: str | None  # the last run that makes it anew
    replay_id: str | None  # of the replay that made it
    parent: str | None  # the run that invoked it ...
    parent_step: str | None  # ... and the step there
    output: Json
    error: ErrorView | None  # what ended it, or the reason why it was cancelled
    last_error: ErrorView | None  # of the last attempt of the code between the steps
    # Of the code outside of steps, since the last step that completed: of the whole body, where there are none (S4.7). Only for a
    # run that is looked at by itself.
    failed_attempts: tuple[AttemptView, ...]
    # by key, in the order of the calls; "charge#1" is the second "charge" (S3.8)
    steps: Mapping[str, StepView]
    # why keys of flow control are empty for its event (S7); only for a run that is looked at by itself
    empty_keys: tuple[str, ...] = ()

    @property
    def is_final(self) -> bool:
        return self.status.is_final

    def duration_ms(self, now_ms: int) -> int | None:
        """From the first start to the end, or to now; None before the first start."""
        if self.started_ms is None:
            return None
        return (
            self.ended_ms if self.ended_ms is not None else max(now_ms, self.started_ms)
        ) - self.started_ms

    def summary_json(self, now_ms: int) -> JsonObject:
        """What a list of runs tells."""
        return {
            "run_id": self.run_id, "function": self.function, "status": self.status.value, "why": self.why, "queue": self.queue,
            "cause": self.cause, "version": self.version, "created_ms": self.created_ms, "started_ms": self.started_ms,
            "ended_ms": self.ended_ms, "duration_ms": self.duration_ms(now_ms), "due_ms": self.due_ms,
            "attempt": self.attempt, "worker": self.worker,
            "error": {"name": self.error.name, "message": self.error.message} if self.error else None,
        }  # fmt: skip

    def to_json(self, now_ms: int) -> JsonObject:
        """Everything."""
        return {
            **self.summary_json(now_ms),
            "event": self.event, "batched": self.batched, "empty_keys": list(self.empty_keys),
            "rerun_of": self.rerun_of, "rerun_by": self.rerun_by,
            "replay_id": self.replay_id, "parent": self.parent, "parent_step": self.parent_step, "crashes": list(self.crashes),
            "steps": [step.to_json() for step in self.steps.values()], "output": self.output,
            "error": self.error.to_json() if self.error else None,
            "last_error": self.last_error.to_json() if self.last_error else None,
            "failed_attempts": [attempt.to_json() for attempt in self.failed_attempts],
        }  # fmt: skip


class RunReader(Protocol):
    """What the handle of a run needs."""

    async def run_fields(self, run_id: str, *names: str) -> list[bytes | None]: ...

    async def view_run(self, run_id: str) -> RunView:
        """What is stored of a run. Raises RunNotFound."""
        ...

    def watch_run(self, run_id: str) -> AsyncGenerator[RunView]:
        """The view of a run at once, and after each change, to its end. Raises RunNotFound."""
        ...

    async def wait_until_done(self, run_id: str, timeout_s: float | None) -> None:
        """Return when the run is final; TimeoutError, with the reason, when it takes longer."""
        ...

    async def cancel_run(self, run_id: str, reason: str) -> bool: ...

    def block_on(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on a loop of the app's own, from sync code."""
        ...


class Run(Generic[R]):
    """A run, by its id; `R` is what its handler returns. Sync methods block; each has an async twin that starts with `a`.

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
        """Where the run is. Raises RunNotFound, StoreUnavailable."""
        return self._reader.block_on(self.astatus)

    async def astatus(self) -> RunStatus:
        """See `status`."""
        (status,) = await self._reader.run_fields(self.id, "status")
        if status is None:
            raise RunNotFound(no_run(self.id))
        return RunStatus(status.decode())

    def view(self) -> RunView:
        """What is stored of the run and its steps, and why it does not execute. Raises RunNotFound, StoreUnavailable."""
        return self._reader.block_on(self.aview)

    async def aview(self) -> RunView:
        """See `view`."""
        return await self._reader.view_run(self.id)

    def watch(self) -> Iterator[RunView]:
        """The view of the run at once, and after each change, to its end: progress as it is stored. Rule S10.7.

            for view in run.watch():
                print(view.status, [step.key for step in view.steps.values()])

        What changes while the loop's body works is in one view. Raises RunNotFound, StoreUnavailable.
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
        """Wait for the end, without polling, and return the result: of its type (S11.3) where the function is known, else JSON.

        Raises RunFailed, RunCancelled, RunSkipped, RunNotFound, StoreUnavailable, and after `timeout` TimeoutError, which says
        what the run waits for. In the async code of a run it raises RuntimeError: the loop that it stopped may have to execute the
        very run that it waits for.
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
        if status == b"completed":
            return cast(R, load(output or b"null", self._output, what=f"the result of run {self.id}"))
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


def refuse_on_the_loop_of_a_worker(run_id: str) -> None:
    """Raise RuntimeError where to wait by blocking would stop a worker's event loop, and with it all runs of the process."""
    if current_run.get() is None:
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # the code of a `def` handler or step, on a thread of its own
        return
    raise RuntimeError(
        f"result() of run {run_id} was called in async code that a worker executes. It blocks the event loop, which may have to "
        "execute that very run. In a handler write `await step.invoke(...)`, which holds no slot while it waits; in other code "
        "`await run.aresult()`."
    )


def no_run(run_id: str) -> str:
    """What to say of a run that the store does not have."""
    return f"there is no run {run_id}: check the id; finished runs are removed after the retention"
