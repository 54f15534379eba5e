"""TaskContext: what a task may know of its run, and what it may say of it. Rule S15.2."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from taskflow.errors import RetryAfterError
from taskflow.headers import NO_HEADERS, Headers
from taskflow.step import engine_of
from taskflow.values.stored import dump

if TYPE_CHECKING:
    from taskflow.context import Context, RunLogger
    from taskflow.types import Duration

local_logger = logging.getLogger("taskflow.run")


class TaskContext:
    """The run of the task that executes: its first parameter, if that is annotated so, or `taskflow.current()`. Rule S15.2.

        @app.task
        def resize(ctx: TaskContext, photo: str) -> str:
            ctx.logger.info("attempt %d", ctx.attempt)

    id       the id of the run; "" when the task was called as a plain function
    task     the full id of the task: "app/module.name"
    attempt  the number of this attempt, from 0
    headers  the headers of the run, which all that it sends, calls and starts inherits (S11.1)
    parent   the id of the run that made this one, or None
    logger   a logger that adds run, task and attempt to every line
    """

    __slots__ = ("_context", "_reporter", "parent", "task")

    def __init__(self, task: str, context: Context[Any] | None, parent: str | None = None) -> None:
        self.task = task
        self.parent = parent
        self._context = context
        self._reporter: Callable[[bytes], None] | None = None

    def __repr__(self) -> str:
        return f"<TaskContext {self.task} {self.id or 'called as a function'}>"

    @property
    def id(self) -> str:
        return "" if self._context is None else self._context.run_id

    @property
    def attempt(self) -> int:
        return 0 if self._context is None else self._context.attempt

    @property
    def headers(self) -> Headers:
        return NO_HEADERS if self._context is None else self._context.headers

    @property
    def logger(self) -> RunLogger | logging.Logger:
        return local_logger if self._context is None else self._context.logger

    def progress(self, done: float, total: float | None = None, **meta: Any) -> None:
        """Say how far the task is: `done` of `total`, and any JSON by name. Rule S15.2.

            ctx.progress(3, 10, file="a.csv")

        `Run.progress()`, `taskflow runs show` and whoever watches the run see the last report. It blocks nobody: of reports that
        come faster than five a second the last one is stored. Of a task that was called as a plain function nobody sees it.
        Raises SerializationError.
        """
        report = {"done": done, **({} if total is None else {"total": total}), **meta}
        body = dump(report, what=f"the progress of {self.task}")
        if self._context is not None:
            if self._reporter is None:
                self._reporter = engine_of(self._context.step).reporter()
            self._reporter(body)

    def retry(self, delay: Duration | timedelta | datetime | None = None, *, reason: str = "") -> NoReturn:
        """End this attempt, and have the task tried again: after `delay`, or when its `Retries` say. Rules S5.3, S15.2.

            if response.status == 429:
                ctx.retry("30s", reason="rate limited")

        It counts as an attempt that failed; when none is left the run fails with this error, which is raised from the one that
        is being handled. `retry_on` and `give_up_on` do not matter. Raises RetryAfterError.
        """
        raise RetryAfterError(reason or "the task asked to be tried again", delay)


current_task: ContextVar[TaskContext | None] = ContextVar("taskflow_task", default=None)


def current() -> TaskContext:
    """The context of the task that executes this code, in any function that it calls. Rule S15.2.

    Raises RuntimeError outside of a task.
    """
    context = current_task.get()
    if context is None:
        raise RuntimeError(
            "taskflow.current() was called outside of a task; in the handler of a function use its `ctx`"
        )
    return context
