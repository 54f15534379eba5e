"""Tasks: the part of an app that makes tasks of functions, and calls tasks by name. Rule S15.1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, Unpack, overload

from taskflow.config import Config
from taskflow.connected_app import ConnectedApp
from taskflow.middleware.base import Middleware
from taskflow.run import Run
from taskflow.tasks.adoption import ADOPTION

if TYPE_CHECKING:
    # An app without tasks needs nothing of them.
    from types import ModuleType

    from taskflow.codecs.codecs import AnyCodec
    from taskflow.tasks.context import TaskContext
    from taskflow.tasks.options import TaskOptions
    from taskflow.tasks.shared import TaskDecorator
    from taskflow.tasks.task import Task

P = ParamSpec("P")
R = TypeVar("R")


class Tasks(ConnectedApp):
    """The methods of an app that have to do with tasks."""

    def __init__(
        self, config: Config, middleware: Sequence[Middleware] = (), codecs: Sequence[AnyCodec] = ()
    ) -> None:
        super().__init__(config, middleware, codecs)
        ADOPTION.welcome(self)

    @overload
    def task(self, code: Callable[Concatenate[TaskContext, P], R], /) -> Task[P, R]: ...

    @overload
    def task(self, code: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(self, **options: Unpack[TaskOptions]) -> TaskDecorator: ...

    # mypy does not see that the keywords here are those of the overload: both unpack the same TypedDict.
    def task(  # type: ignore[misc]
        self, code: Callable[..., Any] | None = None, /, **options: Unpack[TaskOptions]
    ) -> Task[..., Any] | TaskDecorator:
        """Make a task of a function, `def` or `async def`. The keywords are those of `TaskOptions`. Rule S15.1.

            @app.task(retries=2, timeouts=Timeouts(hard="5m"))
            def resize(photo: str, width: int = 800) -> str: ...

            resize.delay("cat.jpg")

        Raises ConfigError when the decorator runs, and TypeError for an option that does not exist.
        """
        from taskflow.tasks.shared import decorated

        return decorated(code, options, lambda task: task._adopt(self), what="@app.task")

    def adopt(self, *tasks: ModuleType | Task[Any, Any]) -> None:
        """Take in tasks that a package made with `@taskflow.task`, each by itself or all of a module. Rule S15.1.

        The first app of a process adopts all that nobody else does. Safe to repeat.
        Raises ConfigError for a task that belongs to another app.
        """
        from taskflow.tasks.shared import tasks_in

        ADOPTION.adopt(self, tasks_in(tasks))

    def route(self, pattern: str, /, *, queue: str) -> None:
        """Have calls of the tasks whose ids fit go to a queue, unless the call names one. Rule S15.4.

            app.route("reports.*", queue="slow")

        `*` stands for any characters, `?` for one; the first rule that fits decides, and beats the task's own queue. Rules hold
        where calls are made, so they stand in code that senders have. Raises ConfigError.
        """
        from taskflow.tasks.routes import checked_route

        self._routes.append(checked_route(pattern, queue))

    def call(self, task_id: str, /, *args: Any, **kwargs: Any) -> Run[Any]:
        """Have a task called whose code is not here, by its full id: "app/module.name". Rule S15.1.

            app.call("billing/billing.tasks.charge", order_id=7)

        Raises ConfigError for a task that no worker has registered, TypeError for arguments that do not fit its parameters, and
        further as `Task.delay`.
        """
        return self._link.block_on(lambda: self.acall(task_id, *args, **kwargs))

    async def acall(self, task_id: str, /, *args: Any, **kwargs: Any) -> Run[Any]:
        """See `call`."""
        from taskflow.tasks.by_name import call_by_name
        from taskflow.tasks.task import Task

        known = self.functions.get(task_id)
        if isinstance(known, Task):
            return await known.adelay(*args, **kwargs)
        spec = await self._control().spec(task_id)
        return await call_by_name(self._link, self._functions.hooks, spec, args, kwargs)
