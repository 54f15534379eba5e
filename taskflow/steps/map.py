"""`step.map`: one step for each item, so many at a time. Rule S3.7."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from taskflow.errors import LimitExceeded, NonRetriableError
from taskflow.step_options import StepSettings
from taskflow.steps.call import check_step_id
from taskflow.steps.host import StepHost
from taskflow.steps.run import run
from taskflow.values.shape import Shape


async def map_items(
    host: StepHost, step_id: str, fn: Callable[..., Any], items: Iterable[Any], concurrency: int, output: Shape,
    settings: StepSettings,
) -> list[Any]:  # fmt: skip
    check_step_id(step_id)
    check_arguments(f"step.map({step_id!r})", fn, concurrency)
    todo = deque(enumerate(items))
    if len(todo) > host.config.max_steps:
        raise LimitExceeded(
            f"step.map({step_id!r}) got {len(todo):,} items, but a run has at most {host.config.max_steps:,} steps. "
            "Split the items with step.invoke, or raise TaskFlow(max_steps=...)."
        )
    results: list[Any] = [None] * len(todo)

    # A task for each item that may be under way, and none for those that have to wait: the engine looks at all tasks of a run.
    async def work() -> None:
        while todo:
            place, item = todo.popleft()
            try:
                # By its place and not by the order of calls, so that the step of an item is the same one in a rerun from a step.
                results[place] = await run(host, f"{step_id}:{place}", fn, (item,), {}, output, settings)
            except BaseException:
                todo.clear()
                raise

    await asyncio.gather(*(work() for _ in range(min(concurrency, len(todo)))))
    return results


def check_arguments(what: str, fn: object, concurrency: object) -> None:
    if not callable(fn):
        raise NonRetriableError(
            f"{what}: the second argument must be a function that takes one item, but is {type(fn).__name__}"
        )
    if type(concurrency) is not int or concurrency < 1:
        raise NonRetriableError(
            f"{what}: concurrency must be an int of at least 1, the number of items under way at a time, got {concurrency!r:.80}"
        )
