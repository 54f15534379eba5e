"""Calls user code: sync or async, with a time limit, marked as being inside a step."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import Executor as ThreadPool
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

from taskflow.engine.tasks.tagging import current_tree
from taskflow.errors import StepTimeout
from taskflow.values.durations import format_duration

inside_step: ContextVar[str] = ContextVar("taskflow_inside_step", default="")
"""The id of the step whose function the current code belongs to, or empty. Rule S3.9."""


async def call_step_function(
    step_id: str,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    threads: ThreadPool,
    timeout_ms: int | None,
    on_abandoned: Callable[[str], None],
) -> Any:
    """Call a step's function; a sync one runs in a thread (S3.1). StepTimeout when it takes too long (S6.3)."""
    step_token = inside_step.set(step_id)
    tree_token = current_tree.set(None)  # what a step spawns, a connection pool say, outlives the run
    try:
        if timeout_ms is None:
            return await call_function(fn, args, kwargs, threads)
        try:
            async with asyncio.timeout(timeout_ms / 1000) as limit:
                if inspect.iscoroutinefunction(fn):
                    return await fn(*args, **kwargs)
                result = await abandonable(call_in_thread(threads, fn, args, kwargs), step_id, on_abandoned)
                return await result if inspect.isawaitable(result) else result
        except TimeoutError:
            if not limit.expired():  # a time-out of the user's own, inside the step
                raise
            raise StepTimeout(
                f"step {step_id!r} took longer than timeouts.step ({format_duration(timeout_ms)})",
                name="StepTimeout",
                step_id=step_id,
            ) from None
    finally:
        current_tree.reset(tree_token)
        inside_step.reset(step_token)


async def call_function(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], threads: ThreadPool
) -> Any:
    if inspect.iscoroutinefunction(fn):
        return await fn(*args, **kwargs)
    result = await call_in_thread(threads, fn, args, kwargs)
    return await result if inspect.isawaitable(result) else result


def call_in_thread(
    threads: ThreadPool, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> asyncio.Future[Any]:
    """Run blocking code in a thread, with the caller's context variables."""
    return asyncio.get_running_loop().run_in_executor(
        threads, partial(copy_context().run, fn, *args, **kwargs)
    )


async def abandonable(future: asyncio.Future[Any], step_id: str, on_abandoned: Callable[[str], None]) -> Any:
    """Wait for a thread; when the wait is cancelled while it runs on, say so: only a new process gets rid of it."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if not future.done():
            on_abandoned(f"step {step_id!r} blocks a thread past its time limit")
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise
