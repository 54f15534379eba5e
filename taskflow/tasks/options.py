"""TaskOptions: the options of `@app.task`, and the spec that is made of them. Rule S15.1."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, cast, get_args

from taskflow.config import Config
from taskflow.errors import ConfigError
from taskflow.flow.checks import period_ms
from taskflow.flow.options import FlowOptions
from taskflow.function import FunctionSpec
from taskflow.function_options import FunctionOptions, checked_spec
from taskflow.middleware.base import Middleware
from taskflow.retries import Exceptions, Retries
from taskflow.tasks.body import TaskBody
from taskflow.timeouts import Timeouts
from taskflow.types import Duration, Handler
from taskflow.values.durations import MAX_DURATION_MS
from taskflow.values.keywords import check_keywords

MAX_ID_CHARS = 200
TASK_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


OnCrash: TypeAlias = Literal["retry", "fail"]


class TaskOptions(FlowOptions, total=False):
    """The options of `@app.task`; None counts as left out. Those of flow control are as for functions, but for `batch_events`.

    id           the id within the app; by default "module.name" of the function
    name         the name for people; by default the id
    retries      number of attempts after the first one, or a Retries (S5.1); by default the app's setting
    retry_on     an exception class, or a tuple: only after these another attempt is made; others end the run (S5.3)
    give_up_on   an exception class, or a tuple: after these no other attempt is made (S5.3)
    timeouts     how long an attempt and the run may take: a Timeouts (S6.3, S15.2)
    queue        the queue of its runs; only workers that serve it (`-Q`) execute them; by default "default" (S7.2)
    keep         how long runs are kept after their end, a duration of at most 366 days; 0: no longer than it takes (S15.2)
    keep_failed  how long failed runs are kept; by default the app's failed_retention (S10.1)
    expires      a duration: a run that has not begun by then is cancelled, and never begins (S15.2)
    on_crash     "retry": executed again when its process dies under it, or "fail": not executed again (S9.8, S15.2)
    max_crashes  the run fails when so many processes in a row died under it; by default the app's setting (S9.8)
    output_type  the type of the result, if the function is not annotated with it (S11.3)
    middleware   a list of Middleware, inside that of the app (S11.4)
    on_failure   a handler that gets the event `taskflow/function.failed` when a run has failed (S5.5)
    """

    id: str | None
    name: str | None
    retries: int | Retries | None
    retry_on: Exceptions | None
    give_up_on: Exceptions | None
    timeouts: Timeouts | None
    queue: str | None
    keep: Duration | None
    keep_failed: Duration | None
    expires: Duration | None
    on_crash: OnCrash | None
    max_crashes: int | None
    output_type: Any
    middleware: Sequence[Middleware] | None
    on_failure: Handler | None


OF_TASKS = ("id", "keep", "expires", "on_crash", "max_crashes")
MOST_CRASHES = 100


def task_spec(
    body: TaskBody, handler: Callable[..., Any], options: TaskOptions, *, task_id: str, config: Config
) -> FunctionSpec:
    """The spec of a task. Raises ConfigError, which names the task, the option, its value and the remedy."""
    try:
        if options.get("batch_events") is not None:
            raise ConfigError(
                "a task has one call a run, so it takes no batch_events; write an @app.function for many events, or give the task "
                "a list"
            )
        shared = {name: value for name, value in options.items() if name not in OF_TASKS}
        if shared.get("retries") is None:
            shared["retries"] = config.retries
        spec = checked_spec(handler, config.app_id, task_id, cast(FunctionOptions, shared))
        keep, expires = options.get("keep"), options.get("expires")
        return replace(
            spec,
            parameters=body.parameters.all,
            keep_ms=None if keep is None else kept_ms(keep),
            max_crashes=most_crashes(options),
            expires_ms=None if expires is None else period_ms("expires", expires, at_most_ms=MAX_DURATION_MS),
        )
    except ConfigError as error:
        raise ConfigError(f"task {f'{config.app_id}/{task_id}'!r}: {error}") from error


def most_crashes(options: TaskOptions) -> int | None:
    """After how many crashes a run fails; None: as the app says."""
    on_crash, most = options.get("on_crash"), options.get("max_crashes")
    if on_crash not in (None, *get_args(OnCrash)):
        raise ConfigError(f"on_crash must be one of {get_args(OnCrash)}, got {on_crash!r:.80}")
    if most is not None and (type(most) is not int or not 1 <= most <= MOST_CRASHES):
        raise ConfigError(f"max_crashes must be a whole number from 1 to {MOST_CRASHES}, got {most!r:.80}")
    if on_crash != "fail":
        return most
    if most not in (None, 1):
        raise ConfigError(
            f"on_crash='fail' ends the run at the first crash, so max_crashes={most} says something else; drop one"
        )
    return 1


def kept_ms(value: Duration) -> int:
    return period_ms("keep", value, at_least_ms=0, at_most_ms=MAX_DURATION_MS)


def check_options(options: TaskOptions, *, what: str) -> None:
    check_keywords(options, TaskOptions, what=what)


def checked_id(options: TaskOptions, code: Callable[..., Any]) -> str:
    """The id of a task within its app: the option `id`, or "module.name". Raises ConfigError."""
    given = options.get("id")
    if given is None:
        given = f"{module_of(code)}.{name_of(code)}"
    if not isinstance(given, str) or len(given) > MAX_ID_CHARS or not TASK_ID.fullmatch(given):
        raise ConfigError(
            f"the id of a task must have 1 to {MAX_ID_CHARS} of the characters a-z, A-Z, 0-9, '.', '_' and '-', and begin with a "
            f"letter, a digit or '_', got {given!r:.100}"
        )
    return given


def name_of(code: Callable[..., Any]) -> str:
    name = getattr(code, "__name__", "")
    if not name or name == "<lambda>":
        raise ConfigError(
            f"a task's id comes from the function's name, and {code!r:.100} has none; pass id='...'"
        )
    return str(name)


def module_of(code: Callable[..., Any], modules: Mapping[str, Any] = sys.modules) -> str:
    """The module of a task, by the name under which a worker imports it: a script that is executed is called `__main__` there."""
    module = getattr(code, "__module__", None) or "tasks"
    if module != "__main__":
        return str(module)
    main = modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return str(spec.name.removesuffix(".__main__"))
    name = file.replace("\\", "/").rpartition("/")[2].removesuffix(".py") if file else ""
    return name or "__main__"
