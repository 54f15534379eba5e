"""SoftLimit: raises SoftTimeLimit in the code of a task that takes long, once. Rule S15.2.

The task's handler passes its code through `current_limit`, since only there it is known where user code begins and ends. In a
coroutine the error takes the place of a cancellation; in a thread Python raises it between two instructions, so a call into C or a
wait without a time limit has to return first.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any

from taskflow.errors import SoftTimeLimit


class SoftLimit:
    """The limit of one attempt. `fire` is called on the loop when the time is over, in the middle of `call` or `guarded`."""

    def __init__(self, message: str) -> None:
        self.message = message
        self.lock = threading.Lock()
        # Who executes the code now.
        self.thread_id: int | None = None
        self.task: asyncio.Task[Any] | None = None
        self.is_due = False

    def fire(self) -> None:
        with self.lock:
            if self.thread_id is not None:
                raise_in(self.thread_id, type("SoftTimeLimit", (SoftTimeLimit,), {"default": self.message}))
        if self.task is not None:
            self.is_due = True
            self.task.cancel()

    # --- in a thread ---

    def call(self, code: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call the code in the present thread."""
        with self.lock:
            self.thread_id = threading.get_ident()
        try:
            return code(*args, **kwargs)
        finally:
            self.leave()

    def leave(self) -> None:
        """The thread goes on with other work: an error that has not been raised yet is taken back."""
        with self.lock:
            thread_id, self.thread_id = self.thread_id, None
        if thread_id is not None:
            raise_in(thread_id, None)

    # --- in a coroutine ---

    async def guarded(self, work: Awaitable[Any]) -> Any:
        """Await the code in the present task."""
        self.task = asyncio.current_task()
        try:
            return await Replacing(work, self)
        finally:
            self.task = None

    def replaces(self, error: BaseException) -> SoftTimeLimit | None:
        """The error to raise in place of the cancellation that `fire` asked for; None for any other error."""
        if not (self.is_due and self.task is not None and isinstance(error, asyncio.CancelledError)):
            return None
        self.is_due = False
        # Somebody else cancels the task too: that goes first.
        return None if self.task.uncancel() else SoftTimeLimit(self.message)


class Replacing:
    """Awaits `work`, and raises SoftTimeLimit in it where the task was cancelled for the sake of that."""

    __slots__ = ("limit", "work")

    def __init__(self, work: Awaitable[Any], limit: SoftLimit) -> None:
        self.work = work
        self.limit = limit

    def __await__(self) -> Generator[Any, Any, Any]:
        inner: Any = self.work.__await__()
        error: BaseException | None = None
        while True:
            try:
                waited = inner.send(None) if error is None else inner.throw(error)
            except StopIteration as end:
                return end.value
            finally:
                error = None
            try:
                yield waited
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as raised:
                error = self.limit.replaces(raised) or raised


def raise_in(thread_id: int, error: type[BaseException] | None) -> None:
    """Have Python raise an error of that class in a thread; with None, take back one that was not raised yet."""
    # A worker imports this module before its first run, and few of its tasks ever run out of time: 5 ms.
    import ctypes

    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread_id), None if error is None else ctypes.py_object(error)
    )
