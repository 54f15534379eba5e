"""Calls user code, sync or async: with a time limit, and with the context variable that says which step it belongs to."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeVar

from taskflow.engine.tasks.tagging import current_tree
from taskflow.engine.thread_pool import ThreadPool
from taskflow.errors import StepTimeout, Suspend
from taskflow.observability.failures import Raised
from taskflow.observability.run_log import ExecutingStep, current_step
from taskflow.values.durations import format_duration
from taskflow.values.loops import is_being_cancelled

T = TypeVar("T")

NOTHING: Mapping[str, Any] = {}


@dataclass(slots=True)
class StepCode:
    """One call of a step's function. A `def` one runs in a thread (S3.1); `timeout_ms` is its time limit (S6.3)."""

    step: ExecutingStep
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    threads: ThreadPool
    timeout_ms: int | None
    on_abandoned: Callable[[str], None]

    async def call(self) -> Any:
        """Call the function. Raises StepTimeout when it takes too long."""
        if self.timeout_ms is None:
            return await call_function(self.fn, self.args, self.kwargs, self.threads)
        return await self.within_limit(self.call_limited())

    async def call_limited(self) -> Any:
        if is_async(self.fn):
            return await contained(self.fn(*self.args, **self.kwargs))
        result = await self.in_thread(self.fn, self.args, self.kwargs)
        return await contained(result) if inspect.isawaitable(result) else result

    async def in_thread(
        self, fn: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] = NOTHING
    ) -> Any:
        thread = self.threads.call(fn, args, kwargs)
        if self.timeout_ms is None:
            return await contained(thread)
        return await contained(abandonable(thread, self.step.id, self.on_abandoned))

    async def within_limit(self, work: Coroutine[Any, Any, T]) -> T:
        if self.timeout_ms is None:
            return await work
        try:
            async with asyncio.timeout(self.timeout_ms / 1000) as limit:
                return await work
        except TimeoutError:
            if not limit.expired():  # a timeout of user code inside the step
                raise
            raise StepTimeout(
                f"step {self.step.id!r} took longer than its time limit ({format_duration(self.timeout_ms)})",
                name="StepTimeout",
                step_id=self.step.id,
            ) from None


async def call_step_function(
    step: ExecutingStep,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    threads: ThreadPool,
    timeout_ms: int | None,
    on_abandoned: Callable[[str], None],
    around: Callable[[StepCode], Awaitable[Any]] | None = None,
) -> Any:
    """Call a step's function, with `around` around it. Raises StepTimeout when it takes too long (S6.3)."""
    step_token = current_step.set(step)
    # tasks that a step spawns, of a connection pool for example, outlive the run
    tree_token = current_tree.set(None)
    try:
        if timeout_ms is None and around is None:
            return await call_function(fn, args, kwargs, threads)
        code = StepCode(step, fn, args, kwargs, threads, timeout_ms, on_abandoned)
        return await (code.call() if around is None else around(code))
    finally:
        try:
            current_tree.reset(tree_token)
            current_step.reset(step_token)
        except ValueError:
            # The coroutine is destroyed with its loop, outside of its context. That is no failure of the step.
            pass


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether `fn` is an `async def` function. A plain one is known by its code, which `inspect` takes ten times as long to ask."""
    return (type(fn) is FunctionType and bool(fn.__code__.co_flags & inspect.CO_COROUTINE)) or (
        inspect.iscoroutinefunction(fn)
    )


async def call_function(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], threads: ThreadPool
) -> Any:
    if is_async(fn):
        return await contained(fn(*args, **kwargs))
    result = await contained(threads.call(fn, args, kwargs))
    return await contained(result) if inspect.isawaitable(result) else result


async def contained(work: Awaitable[Any]) -> Any:
    """Await user code. An exception that asyncio would not treat as an error is raised as `Raised`.

    A CancelledError is an error of user code if nobody has cancelled the task: the code awaited something that was cancelled.
    """
    try:
        return await work
    except (Suspend, GeneratorExit, Exception):
        raise
    except asyncio.CancelledError as error:
        if is_being_cancelled():
            raise
        raise Raised(error) from error
    except BaseException as error:
        raise Raised(error) from error


async def abandonable(future: asyncio.Future[Any], step_id: str, on_abandoned: Callable[[str], None]) -> Any:
    """Wait for a thread. If the wait is cancelled while the thread runs on, report that: only a new process gets rid of it."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if not future.done():
            on_abandoned(f"step {step_id!r} blocks a thread for which nobody waits any more")
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise
