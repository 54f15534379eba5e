"""Finds out for what an asyncio task waits, from the task itself. Rule S4.3.

asyncio keeps no record of who can wake a task. But asyncio's own suspended code shows it: the children of a gather, and the locals
of `asyncio.wait`, `wait_for`, `as_completed` and `TaskGroup.__aexit__`. Their waiters are private to them, so the members found
there are *all* that can complete the waiter: the answer is a proof. Anyone can complete any other future (raw I/O, an Event, a
Lock, a Queue, a sleep): the answer is None.

A timer can let a task go on as well. That of `asyncio.timeout` hangs on no future, but its context manager
lies on the stack of the suspended coroutine, where the garbage collector's view of the coroutine shows it.
Other timers (`loop.call_later(5, task.cancel)`, timeouts of other libraries) stay unseen.

Nothing here changes what it looks at. A release of asyncio that holds things otherwise yields None: slower,
not wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import tasks as asyncio_tasks
from collections.abc import Collection, Iterable, Sequence
from gc import get_referents
from types import AsyncGeneratorType, CodeType, CoroutineType, FunctionType, GeneratorType, MethodType
from typing import Any, NamedTuple, TypeAlias

AnyFuture: TypeAlias = asyncio.Future[Any]
AnyTask: TypeAlias = asyncio.Task[Any]


class Wait(NamedTuple):
    """The futures and timers on which the completion of one future depends."""

    members: Collection[AnyFuture]
    """The futures, not done yet, that can complete it; nothing else can, except `timer`."""
    moving: bool = False
    """A callback that completes it, or changes these facts, is already scheduled."""
    timer: asyncio.TimerHandle | None = None
    """A pending timer that completes it without any member."""
    throwable: bool = False
    """An exception may be set on the future itself: its waiter gets it, and the members do no harm later."""


MOVING = Wait((), moving=True)


def nested_code(function: Any, name: str) -> CodeType | None:
    """The code of the function `name` that is defined inside `function`."""
    constants = function.__code__.co_consts
    return next((c for c in constants if isinstance(c, CodeType) and c.co_name == name), None)


private: Any = asyncio_tasks  # what the type stubs of asyncio.tasks leave out
GATHERING = private._GatheringFuture
GATHER_CALLBACK = nested_code(asyncio.gather, "_done_callback")
SHIELD_OUTER_CALLBACK = nested_code(asyncio.shield, "_outer_done_callback")
SHIELD_INNER_CALLBACK = nested_code(asyncio.shield, "_inner_done_callback")
WAIT_CODE = private._wait.__code__
WAIT_CALLBACK = nested_code(private._wait, "_on_completion")
CANCEL_AND_WAIT_CODE = private._cancel_and_wait.__code__
WAIT_FOR_CODE = asyncio.wait_for.__code__
GROUP_EXIT_CODE = asyncio.TaskGroup.__aexit__.__code__
QUEUE_GET_CODE = asyncio.Queue.get.__code__
# A generator and its closures up to 3.12, a class since 3.13.
AS_COMPLETED: Any = getattr(asyncio_tasks, "_AsCompletedIterator", asyncio.as_completed)
AS_COMPLETED_IS_CLASS = AS_COMPLETED is not asyncio.as_completed
AS_COMPLETED_CALLBACK = None if AS_COMPLETED_IS_CLASS else nested_code(AS_COMPLETED, "_on_completion")
AS_COMPLETED_GET_CODE = (
    AS_COMPLETED._wait_for_one.__code__
    if AS_COMPLETED_IS_CLASS
    else nested_code(AS_COMPLETED, "_wait_for_one")
)
EXIT_OF_TIMEOUT = asyncio.Timeout.__aexit__
EXIT_OF_GENERATOR = contextlib._AsyncGeneratorContextManager.__aexit__
EXIT_OF_STACK = contextlib.AsyncExitStack.__aexit__
WRAPPERS = frozenset(
    ("async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper")
)
"""Awaitables of the interpreter that hide what they await from everyone but the garbage collector."""
LINKS = (CoroutineType, AsyncGeneratorType, GeneratorType)


def await_chain(task: AnyTask) -> list[Any]:
    """The coroutines and generators of a suspended task, each awaiting the next."""
    chain: list[Any] = []
    link: Any = task.get_coro()
    while link is not None:
        kind = type(link)
        if kind is CoroutineType:
            chain.append(link)
            link = link.cr_await
        elif kind is AsyncGeneratorType:
            chain.append(link)
            link = link.ag_await
        elif kind is GeneratorType:
            chain.append(link)
            link = link.gi_yieldfrom
        elif kind.__name__ in WRAPPERS:
            held = get_referents(link)
            link = next((h for h in held if type(h) in LINKS or type(h).__name__ in WRAPPERS), None)
        else:
            break
    return chain


def pending_timer(chain: Iterable[Any]) -> asyncio.TimerHandle | None:
    """The timer of an `asyncio.timeout` or `wait_for` inside of which one of these coroutines is."""
    for link in chain:
        for held in get_referents(link):
            if type(held) is MethodType:
                timer = timer_of_exit(held)
                if timer is not None:
                    return timer
    return None


def timer_of_exit(method: MethodType) -> asyncio.TimerHandle | None:
    """The timer that this bound `__aexit__` would cancel."""
    function: Any = method.__func__
    manager: Any = method.__self__
    if function is EXIT_OF_TIMEOUT:
        return live(manager._timeout_handler)
    if function is EXIT_OF_GENERATOR:
        return pending_timer((manager.gen,))
    if function is EXIT_OF_STACK:
        exits = [exit for _, exit in manager._exit_callbacks if type(exit) is MethodType]
        return next(filter(None, map(timer_of_exit, exits)), None)
    return None


def wait_behind(
    future: AnyFuture, chain: Sequence[Any], candidates: Iterable[Iterable[AnyFuture]] = ()
) -> Wait | None:
    """The futures and timers on which `future` depends, or None if that can't be known.

    `chain` is the await chain of the task that awaits the future, or empty if no task awaits it itself. `candidates` are futures
    that may be members of an `as_completed`, which up to Python 3.12 is found only through its members.
    """
    if type(future) is GATHERING:
        return behind_gather(future)
    shielding = callback_with(future, SHIELD_OUTER_CALLBACK)
    if shielding is not None:
        inner = captured(shielding, "inner")
        return MOVING if inner.done() else Wait((inner,))
    if not chain or type(chain[-1]) is not CoroutineType:
        return None
    last: Any = chain[-1]
    code, local = last.cr_code, last.cr_frame.f_locals
    if code is WAIT_CODE:
        return behind_wait(local)
    if code is GROUP_EXIT_CODE:
        return behind_group(local["self"], future)
    if code is WAIT_FOR_CODE or code is CANCEL_AND_WAIT_CODE:
        # Since 3.12 wait_for awaits the caller's future itself, about which nothing is known.
        return behind_release(local) if local.get("waiter") is future else None
    if code is QUEUE_GET_CODE and len(chain) > 1 and chain[-2].cr_code is AS_COMPLETED_GET_CODE:
        return behind_as_completed(chain[-2].cr_frame.f_locals, local["self"], candidates)
    return None


def behind_gather(outer: Any) -> Wait | None:
    children = outer._children
    pending = [child for child in children if not child.done()]
    if not pending:
        return MOVING
    if len(pending) < len(children) and any(child.done() and is_failed(child) for child in children):
        # One that failed ends the gather in the next iteration, unless it takes failures for results.
        callback = callback_with(pending[0], GATHER_CALLBACK, outer=outer)
        if callback is None:
            return None
        if not captured(callback, "return_exceptions"):
            return MOVING
    return Wait(pending, throwable=True)


def behind_wait(local: dict[str, Any]) -> Wait:
    futures, until = local["fs"], local["return_when"]
    pending = [future for future in futures if not future.done()]
    if len(pending) < len(futures):
        ended = [future for future in futures if future.done()]
        if not pending or until == asyncio.FIRST_COMPLETED:
            return MOVING
        if until == asyncio.FIRST_EXCEPTION and any(not f.cancelled() and is_failed(f) for f in ended):
            return MOVING
    return Wait(pending, timer=live(local["timeout_handle"]), throwable=True)


def behind_group(group: Any, future: AnyFuture) -> Wait | None:
    if group._on_completed_fut is not future or not group._tasks:
        return None
    # A member that is done leaves the group by a callback, which is therefore still to come.
    return MOVING if any(task.done() for task in group._tasks) else Wait(list(group._tasks))


def behind_release(local: dict[str, Any]) -> Wait:
    """The Wait of `wait_for` up to Python 3.11, and in all versions of the code that cancels its future."""
    inner = local["fut"]
    return MOVING if inner.done() else Wait((inner,), timer=live(local.get("timeout_handle")))


def behind_as_completed(
    local: dict[str, Any], queue: object, candidates: Iterable[Iterable[AnyFuture]]
) -> Wait | None:
    if AS_COMPLETED_IS_CLASS:
        iterator = local["self"]
        todo, timer = iterator._todo, iterator._timeout_handle
    else:
        found = (
            callback_with(f, AS_COMPLETED_CALLBACK, done=queue) for futures in candidates for f in futures
        )
        callback = next(filter(None, found), None)
        if callback is None:
            return None
        todo, timer = captured(callback, "todo"), captured(callback, "timeout_handle")
    # A member that is done leaves by a callback, which is therefore still to come.
    return MOVING if any(f.done() for f in todo) else Wait(list(todo), timer=live(timer), throwable=True)


def live(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    return timer if timer is not None and not timer.cancelled() else None


def is_failed(future: AnyFuture) -> bool:
    """Whether a future that is done was cancelled or has an exception."""
    return future.cancelled() or future.exception() is not None


def callbacks(future: AnyFuture) -> list[Any]:
    """The callbacks of the future, which are called when it is done."""
    return [callback for callback, _ in getattr(future, "_callbacks", None) or ()]


def callback_with(future: AnyFuture, code: CodeType | None, **cells: object) -> FunctionType | None:
    """The callback on `future` that runs `code` and has captured `cells`, compared by identity."""
    for callback in callbacks(future):
        if code is None or getattr(callback, "__code__", None) is not code:
            continue
        if all(captured(callback, name) is value for name, value in cells.items()):
            return callback  # type: ignore[no-any-return]
    return None


def captured(function: Any, name: str) -> Any:
    """The value of the variable `name` that an inner function uses of the outer one."""
    return function.__closure__[function.__code__.co_freevars.index(name)].cell_contents
