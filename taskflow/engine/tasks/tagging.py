"""Tags asyncio tasks: a task belongs to the run in whose context it is spawned. Rule S4.3.

A task factory adds each new task to the tree that its context names. The engine's own tasks avoid that by
`create_task(..., context=Context())`, and tasks of user code inside a step by `detached()`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Any, Protocol


class Tree(Protocol):
    births: int

    def adopt(self, task: asyncio.Task[Any], birth: int) -> None:
        """A task was spawned under the tree. An eager one has run already: its children came before it."""


current_tree: ContextVar[Tree | None] = ContextVar("taskflow_tree", default=None)


class TaggingTaskFactory:
    """Hands each new task to its tree; `inner` makes the task."""

    __slots__ = ("inner",)

    def __init__(self, inner: Callable[..., asyncio.Future[Any]]) -> None:
        self.inner = inner

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Any, /, **options: Any) -> asyncio.Future[Any]:
        # The protocol is asyncio's: `options` are those of create_task, and grow with its releases.
        context: Context | None = None
        if options:
            context = options.get("context")
            if "eager_start" in options and options["eager_start"] is None:
                del options["eager_start"]  # uvloop always passes it, which not every factory takes
        tree = current_tree.get() if context is None else context.get(current_tree)
        if tree is None:
            return self.inner(loop, coro, **options)
        tree.births = birth = tree.births + 1
        task = self.inner(loop, coro, **options)
        if isinstance(task, asyncio.Task):
            tree.adopt(task, birth)
        return task


def install_task_factory(loop: asyncio.AbstractEventLoop) -> None:
    """Make `loop` tag its tasks, on top of the task factory it has, if any. Repeating it does nothing."""
    inner = loop.get_task_factory()
    if not isinstance(inner, TaggingTaskFactory):
        loop.set_task_factory(TaggingTaskFactory(inner or make_task))


def make_task(loop: asyncio.AbstractEventLoop, coro: Any, /, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coro, loop=loop, **options)


@contextmanager
def detached() -> Iterator[None]:
    """Tasks spawned inside belong to no run: a connection pool that a step opens outlives the run."""
    token = current_tree.set(None)
    try:
        yield
    finally:
        current_tree.reset(token)
