"""`@taskflow.task`: tasks of a package, which knows no app. The first app of the process adopts them. Rule S15.1."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, Concatenate, ParamSpec, TypeVar, Unpack, overload

from taskflow.errors import ConfigError
from taskflow.tasks.adoption import ADOPTION
from taskflow.tasks.context import TaskContext
from taskflow.tasks.options import TaskOptions, check_options
from taskflow.tasks.task import Task

P = ParamSpec("P")
R = TypeVar("R")


def tasks_in(things: Iterable[ModuleType | Task[Any, Any]]) -> list[Task[Any, Any]]:
    """The tasks that were given, and those of modules that were given. Raises ConfigError for anything else."""
    found: list[Task[Any, Any]] = []
    for thing in things:
        if isinstance(thing, Task):
            found.append(thing)
        elif isinstance(thing, ModuleType):
            found += [each for each in vars(thing).values() if isinstance(each, Task)]
        else:
            raise ConfigError(f"adopt() takes tasks, and modules that have tasks, got {thing!r:.80}")
    return list(dict.fromkeys(found))


@overload
def task(code: Callable[Concatenate[TaskContext, P], R], /) -> Task[P, R]: ...


@overload
def task(code: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(**options: Unpack[TaskOptions]) -> TaskDecorator: ...


def task(
    code: Callable[..., Any] | None = None, /, **options: Unpack[TaskOptions]
) -> Task[..., Any] | TaskDecorator:
    """Make a task of a package, which an app adopts: the first one of the process, or that which calls `app.adopt`. S15.1.

        from taskflow import task

        @task
        def resize(photo: str) -> str: ...

    Options and errors are those of `TaskFlow.task`; what the app has to say to them is raised when the app adopts it.
    A call before that raises ConfigError, and never goes anywhere else.
    """
    return decorated(code, options, ADOPTION.offer, what="@taskflow.task")


class TaskDecorator:
    """What `@app.task(...)` gives: it makes a task of a function."""

    def __init__(self, options: TaskOptions, register: Callable[[Task[Any, Any]], object]) -> None:
        self._options = options
        self._register = register

    @overload
    def __call__(self, code: Callable[Concatenate[TaskContext, P], R], /) -> Task[P, R]: ...

    @overload
    def __call__(self, code: Callable[P, R], /) -> Task[P, R]: ...

    def __call__(self, code: Callable[..., Any], /) -> Task[..., Any]:
        made: Task[..., Any] = Task(code, self._options)
        self._register(made)
        return made


def decorated(
    code: Callable[..., Any] | None, options: TaskOptions, register: Callable[[Task[Any, Any]], object], *, what: str
) -> Task[..., Any] | TaskDecorator:  # fmt: skip
    """What a decorator gives, that was written with or without parentheses."""
    check_options(options, what=f"{what}()")
    if code is not None and not callable(code):
        raise TypeError(f"{what} takes keywords only, got {code!r:.80}; its id is id='...'")
    decorator = TaskDecorator(options, register)
    return decorator if code is None else decorator(code)
