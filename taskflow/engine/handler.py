"""Calls user code, sync or async: with a time limit, and with the context variable that says which step it belongs to."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from taskflow.engine.tasks.tagging import current_tree
from taskflow.engine.thread_pool import ThreadPool
from taskflow.errors import StepTimeout, Suspend
from taskflow.observability.failures import Raised
from taskflow.observability.run_log import ExecutingStep, current_step
from taskflow.values.durations import format_duration


async def call_step_function(
    step: ExecutingStep,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    threads: ThreadPool,
    timeout_ms: int | None,
    on_abandoned: Callable[[str], None],
) -> Any:
    """Call a step's function; a `def` one runs in a thread (S3.1). Raises StepTimeout when it takes too long (S6.3)."""
    step_token = current_step.set(step)
    # tasks that a step spawns, of a connection pool for example, outlive the run
    tree_token = current_tree.set(None)
    try:
        if timeout_ms is None:
            return await call_function(fn, args, kwargs, threads)
        try:
            async with asyncio.timeout(timeout_ms / 1000) as limit:
                if inspect.iscoroutinefunction(fn):
                    return await contained(fn(*args, **kwargs))
                thread = threads.call(fn, args, kwargs)
                result = await contained(abandonable(thread, step.id, on_abandoned))
                return await contained(result) if inspect.isawaitable(result) else result
        except TimeoutError:
            if not limit.expired():  # a timeout of user code inside the step
                raise
            raise StepTimeout(
                f"step {step.id!r} took longer than its time limit ({format_duration(timeout_ms)})",
                name="StepTimeout",
                step_id=step.id,
            ) from None
    finally:
        try:
            current_tree.reset(tree_token)
            current_step.reset(step_token)
        except ValueError:
            # The coroutine is destroyed with its loop, outside of its context. That is no failure of the step.
            pass


async def call_function(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], threads: ThreadPool
) -> Any:
    if inspect.iscoroutinefunction(fn):
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
        task = asyncio.current_task()
        if task is not None and task.cancelling():
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
            on_abandoned(f"step {step_id!r} blocks a thread past its time limit")
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise
